import HostIO
import Wire

/// A small file that the source writes beside an image: who finds it with its secret sees the same folder, and there
/// an image of the same inode is the same image.
struct SharedDiskProbe: Codable, Sendable, Equatable {
  private static let prefix = ".godwit-probe-"
  private static let nameMax = 64

  var name, secret: String
  /// Of the image at the source.
  var inode: UInt64

  /// Writes a probe; nil where that cannot be done, or the image is no file.
  ///
  /// - Parameter number: tells the disks of one migration apart.
  static func leave(beside image: String, _ id: MigrationID, number: Int) -> SharedDiskProbe? {
    guard let path = ImageFile.realPath(image), let made = MadeFile.at(path),
      FileSpace.taken(by: path) != nil
    else { return nil }
    var random = SystemRandomNumberGenerator()
    let secret = MigrationID(using: &random)
    let probe = SharedDiskProbe(
      name: "\(prefix)\(id.description.prefix(16))-\(number)",
      secret: secret.description, inode: made.inode)
    do {
      try SmallFile.write(probe.secret.utf8, to: folder(of: path) + probe.name, mode: 0o600)
    } catch {
      return nil
    }
    return probe
  }

  func remove(beside image: String) {
    guard let path = ImageFile.realPath(image) else { return }
    MadeFile.at(Self.folder(of: path) + name)?.remove()
  }

  /// Whether the image at `path` on this host is the one that the probe was left beside.
  func isSeen(beside path: String) -> Bool {
    // The name comes from a peer.
    guard name.hasPrefix(Self.prefix), name.utf8.count <= Self.nameMax, !name.contains("/"),
      let path = ImageFile.realPath(path), MadeFile.at(path)?.inode == inode,
      let text = try? SmallFile.read(Self.folder(of: path) + name, bytesMax: Self.nameMax)
    else { return false }
    return text == secret && secret.utf8.count == 32
  }

  private static func folder(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./"
  }
}
