import Base
import Compaction
import HostIO

/// An index that is on disk, ready to be asked.
final class StoredIndex: Sendable {
  /// Room for `ImageLimits.blocksMax` blocks and as many regions and pieces as there may be.
  private static let bytesMax = 6 << 30

  let index: ImageIndex
  private let file: MappedFile

  /// Reads all of it once, to find damage.
  init(path: String) throws {
    let file = try MappedFile(path: path, bytesMax: Self.bytesMax)
    index = try ImageIndex(decoding: file.span())
    self.file = file
  }

  /// Bytes on disk.
  var byteCount: Int { file.byteCount }

  /// A block with this content, of those that `accepts` takes; nil: none.
  ///
  /// - Parameters:
  ///   - tag: of the content.
  ///   - identity: the content's SHA-256, computed here when the tag is in the index.
  func find(
    _ content: RawSpan, _ tag: UInt32, _ identity: inout [UInt8]?, accepts: (UInt32) -> Bool
  ) -> UInt32? {
    let file = file
    let bytes = file.span()
    for number in index.candidates(tag, in: bytes) {
      let block = index.block(number, in: bytes)
      guard accepts(block.block) else { continue }
      let proven = identity ?? PageIdentity.bytes(of: content)
      identity = proven
      let first = proven.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      if block.identity == first { return block.block }
    }
    return nil
  }
}

/// Where a host keeps the indexes of its images: a folder of the agent's own, a file for each image, named after
/// the image's path.
public struct IndexFolder: Sendable {
  public let path: String

  /// - Parameter stateDirectory: the agent's.
  public init(stateDirectory: String) { path = stateDirectory + "/images" }

  private func file(_ imagePath: String, _ suffix: String) -> String {
    let bytes = Array(imagePath.utf8)
    let name = unsafe PageIdentity.bytes(of: bytes.span.bytes).prefix(16)
    let digits = name.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }
    return path + "/" + digits.joined() + suffix
  }

  private static let suffix = ".index"

  /// The index of the image with this real path.
  func indexPath(_ imagePath: String) -> String { file(imagePath, Self.suffix) }
  /// What an index is built in.
  func journalPath(_ imagePath: String) -> String { file(imagePath, ".building") }
  func newPath(_ imagePath: String) -> String { file(imagePath, ".new") }
  func lockPath(_ imagePath: String) -> String { file(imagePath, ".lock") }

  func make() throws { try PrivateDirectory.make(path) }

  /// The image's index; nil when there is none that can be read. Blocks.
  func load(_ imagePath: String) -> StoredIndex? {
    guard let stored = try? StoredIndex(path: indexPath(imagePath)), stored.index.path == imagePath
    else { return nil }
    return stored
  }

  /// The files of all indexes, by name.
  func files() -> [String] {
    ProcFile.names(in: path).filter { $0.hasSuffix(Self.suffix) }.sorted().map { path + "/" + $0 }
  }
}
