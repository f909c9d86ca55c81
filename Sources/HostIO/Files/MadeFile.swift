import Glibc

/// A file that was made here under a name that nothing had, and that is taken away again only while it is that file.
///
/// At first it has a draft's name as well, which nothing else has: by it whoever cleans up after a crash knows the
/// file again. Plan the file durably, make it, note it durably, drop the draft's name.
public struct MadeFile: Codable, Sendable, Hashable {
  public let path: String
  /// What the kernel knows it by.
  public let device, inode: UInt64

  /// Makes a file of `byteCount` zeros that takes no space yet, for its owner alone. Throws `EEXIST` where the name
  /// is taken, whatever by.
  ///
  /// - Parameter label: makes the draft's name; nobody else uses it for this path.
  public static func make(
    _ path: String, label: String, byteCount: UInt64
  ) throws(SystemError) -> MadeFile {
    guard let size = off_t(exactly: byteCount) else {
      throw SystemError("make \(path)", code: EFBIG)
    }
    let draft = draftPath(path, label)
    let raw = unsafe open(draft, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard raw >= 0 else { throw SystemError("make \(draft)") }
    let descriptor = Descriptor(owning: raw)
    guard ftruncate(descriptor.raw, size) == 0, fsync(descriptor.raw) == 0,
      unsafe link(draft, path) == 0
    else {
      let code = errno
      _ = unsafe unlink(draft)
      throw SystemError("make \(path)", code: code)
    }
    guard let made = at(path) else { throw SystemError("look at \(path)") }
    syncFolder(of: path)
    return made
  }

  /// What is at `path` now, links not followed; nil: nothing.
  public static func at(_ path: String) -> MadeFile? {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return nil }
    return MadeFile(path: path, device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
  }

  /// The file keeps its own name alone.
  public static func dropDraft(_ path: String, label: String) {
    _ = unsafe unlink(draftPath(path, label))
    syncFolder(of: path)
  }

  /// Takes away what `make` may have left of a file that was planned and not noted.
  public static func removeDraft(_ path: String, label: String) {
    let draft = draftPath(path, label)
    guard let own = at(draft) else { return }
    if let file = at(path), (file.device, file.inode) == (own.device, own.inode) {
      _ = unsafe unlink(path)
    }
    _ = unsafe unlink(draft)
    syncFolder(of: path)
  }

  /// Removes the file, unless something else has its name by now.
  public func remove() {
    guard Self.at(path) == self else { return }
    _ = unsafe unlink(path)
    Self.syncFolder(of: path)
  }

  private static func draftPath(_ path: String, _ label: String) -> String {
    "\(path).\(label).part"
  }

  /// Names must survive a crash, too.
  private static func syncFolder(of path: String) {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    let raw = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard raw >= 0 else { return }
    _ = fsync(raw)
    _ = close(raw)
  }
}
