import CLinux
import Glibc
public import HostIO

/// What an export of ours says of the image that it serves, so that clients know it again: `attach` and `detach` QEMU's own
/// file, movers and pulls the disk of an earlier connection.
///
/// Of a file it is the numbers of its file system and inode, and when it was made: the number of an inode is soon given to
/// another file. File systems may have another number after a boot, so who knows when the file was made goes by that.
public struct ExportIdentity: Sendable, Hashable {
  private let device, inode: Substring
  /// In nanoseconds since 1970; nil: the file system doesn't say, nor did earlier versions.
  private let born: Substring?

  /// nil: it isn't a file's.
  private init?(_ text: String) {
    let parts = text.split(separator: " ", omittingEmptySubsequences: false)
    guard (2...3).contains(parts.count), parts[0] == "file" else { return nil }
    let numbers = parts[1].split(separator: ":", omittingEmptySubsequences: false)
    guard numbers.count == 2, (numbers + parts[2...]).allSatisfy({ UInt64($0) != nil }) else {
      return nil
    }
    (device, inode, born) = (numbers[0], numbers[1], parts.count == 3 ? parts[2] : nil)
  }

  /// Of the image at `path`.
  public static func of(_ path: String) throws(SystemError) -> String {
    let numbers = try FileStore.identity(of: path)
    var born: Int64 = 0
    guard numbers.hasPrefix("file "), unsafe godwit_birth_time(path, &born) == 0 else {
      return numbers
    }
    return "\(numbers) \(born)"
  }

  /// Whether an export that says `told` of itself serves the image at `path` of this host, and nothing else is said of it.
  public static func isOwn(_ told: String, _ path: String) throws(SystemError) -> Bool {
    // A server of an earlier version doesn't know when the file was made.
    let (own, numbers) = (try of(path), try FileStore.identity(of: path))
    return told == own || told == numbers
  }

  /// Whether an export that says `told` has the disk of one that said `known`.
  static func isSame(_ known: String, _ told: String) -> Bool {
    if known == told { return true }
    guard let known = ExportIdentity(known), let told = ExportIdentity(told) else { return false }
    // What an earlier version noted.
    guard let born = known.born else {
      return known.device == told.device && known.inode == told.inode
    }
    return born == told.born && known.inode == told.inode
  }

  /// What an export says of itself, whatever happens to its disk.
  static func told(by store: RemoteStore) -> String { plain(store.exportDescription) }

  static func plain(_ description: String) -> String {
    var text = description
    for note in MovableStore.exportNotes where text.hasSuffix(note) {
      text = String(text.dropLast(note.count))
    }
    // As much as the maps of moves and of pulls have room for.
    return String(decoding: text.utf8.prefix(400), as: UTF8.self)
  }
}
