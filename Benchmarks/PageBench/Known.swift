import Base
import Compaction
import Crypto
import Wire

/// What the destination has, as the source's agent knows it: directories that were filled with some pages, in which the
/// same pages are looked for as the agent's encoders do. What is found is proven by SHA-256.
final class Known {
  /// Where the destination has a page.
  enum Form: String, CaseIterable { case duplicate, held, vault, disk, gang }

  private static let seed: UInt64 = 42
  private let form: Form
  private var filters: [UInt64] = []
  private var sent: SentMemory
  private var vault: VaultDirectory
  private var gang: GangDirectory
  private let index: ImageIndex
  private let indexBytes: [UInt8]

  /// - Parameter contents: pages one after the other.
  init(_ form: Form, _ contents: [[UInt8]]) throws {
    self.form = form
    let count = contents.reduce(0) { $0 + $1.count / Page.size }
    // Contents that meet in the directory push each other out: in a guest this much larger hardly any do.
    sent = SentMemory(blockPages: [count * 64], isReadable: [true], byteLimit: 1 << 30)
    guard let vault = VaultDirectory(pages: [UInt64(count)]) else { throw BenchError.notFound }
    (self.vault, gang) = (vault, GangDirectory(byteLimit: 1 << 30))
    _ = gang.add(1, blockPages: [count])
    _ = gang.add(2, blockPages: [count])
    var blocks: [IndexedBlock] = []
    for pages in contents {
      // SAFETY: a view of initialized bytes, which outlive the loop.
      let span = unsafe pages.span.bytes
      for start in stride(from: 0, to: pages.count, by: Page.size) {
        let page = span.extracting(start..<start + Page.size)
        let (number, hash) = (UInt64(filters.count), SentMemory.hash(page, seed: Self.seed))
        filters.append(hash)
        sent.sent(block: 0, page: number, page, hash: hash, sequence: 1)
        gang.sent(1, block: 0, page: number, hash: hash, sequence: 1)
        blocks.append(
          IndexedBlock(
            tag: IndexedBlock.tag(of: page), block: UInt32(truncatingIfNeeded: number),
            identity: Self.first(Self.identity(of: page))))
      }
    }
    gang.applied(1, through: 1)
    _ = self.vault.add(filters, of: 0)
    let file = try Self.index(blocks)
    index = try unsafe ImageIndex(decoding: file.span.bytes)
    indexBytes = file
  }

  private static func index(_ blocks: [IndexedBlock]) throws -> [UInt8] {
    let bytes = UInt64(blocks.count) << UInt64(Page.shift)
    let ones = [UInt8](repeating: 1, count: ImageDigest.byteCount)
    let digest = try unsafe ImageDigest(ones.span.bytes)
    let regions = (0..<ImageLimits.regions(of: bytes)).map { region in
      RegionSummary(
        digest: digest,
        heldBlocks: UInt32(
          clamping: min(blocks.count - region * ImageLimits.regionBlocks, ImageLimits.regionBlocks))
      )
    }
    return try IndexWriter(
      format: .raw, imageBytes: bytes,
      signature: ImageSignature(byteCount: bytes, modifiedNs: 1, changedNs: 1, inode: 1, device: 1),
      readFrom: 1, path: "/disk.raw", map: .raw(blocks: UInt64(blocks.count))
    ).bytes(regions: regions, root: digest, blocks: blocks)
  }

  /// How a page is made of what is known; nil: of nothing.
  ///
  /// - Parameter number: of the page among those that `filters` are of.
  func reference(to page: RawSpan, number: Int) -> PageReference? {
    switch form {
    case .duplicate:
      let hash = SentMemory.hash(page, seed: Self.seed)
      return sent.duplicate(hash, for: 2).map {
        .duplicate(
          DuplicateNote(block: $0.block, page: $0.page, identity: Self.identity(of: page)))
      }
    case .held:
      guard SentMemory.hash(page, seed: Self.seed) == filters[number] else { return nil }
      return .held(proof: Self.identity(of: page))
    case .vault:
      let hash = SentMemory.hash(page, seed: Self.seed)
      return vault.find(hash, in: 0).map {
        .vault(VaultNote(snapshot: 0, page: $0, identity: Self.identity(of: page)))
      }
    case .disk: return block(page)
    case .gang:
      let hash = SentMemory.hash(page, seed: Self.seed)
      return gang.find(hash, for: 2).map {
        .gang(
          GangNote(
            member: $0.member, block: $0.block, page: $0.page, identity: Self.identity(of: page)))
      }
    }
  }

  private func block(_ page: RawSpan) -> PageReference? {
    let file = indexBytes
    // SAFETY: a view of initialized bytes, which outlive the loop.
    let bytes = unsafe file.span.bytes
    for candidate in index.candidates(IndexedBlock.tag(of: page), in: bytes) {
      let block = index.block(candidate, in: bytes)
      let identity = Self.identity(of: page)
      guard block.identity == Self.first(identity) else { continue }
      return .disk(DiskNote(image: 0, block: UInt64(block.block), identity: identity))
    }
    return nil
  }

  static func identity(of page: RawSpan) -> [UInt8] {
    var hash = SHA256()
    // SAFETY: the pointer does not leave the closure.
    unsafe page.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    return Array(hash.finalize())
  }

  private static func first(_ identity: [UInt8]) -> UInt64 {
    identity.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }
}
