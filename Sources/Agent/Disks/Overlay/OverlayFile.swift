import BlockStore
import Glibc
import HostIO

/// The file of an overlay: made empty for the guest's QEMU, and removed when it holds nothing that isn't elsewhere.
enum OverlayFile {
  /// Makes the file, with the image's owner and mode: who may open the one may open the other.
  ///
  /// Throws `EEXIST` where there is one: that may be newer than the image.
  static func make(_ path: String, for image: String) throws(SystemError) {
    var status = stat()
    guard unsafe stat(image, &status) == 0 else { throw SystemError("look at \(image)") }
    let raw = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard raw >= 0 else { throw SystemError("make \(path)") }
    let file = Descriptor(owning: raw)
    // Only root can give a file away; for others the owner is the same, or QEMU says what it may not do.
    _ = fchown(file.raw, status.st_uid, status.st_gid)
    guard fchmod(file.raw, status.st_mode & 0o777) == 0, fsync(file.raw) == 0 else {
      throw SystemError("make \(path)")
    }
    try syncFolder(of: path)
  }

  /// Where no guest uses one: removes what was left before QEMU began with it, and one that was set aside.
  static func removeIfEmpty(_ path: String) throws(SystemError) {
    if !ImageOverlay(at: path).holdsSomething { try remove(path) }
  }

  /// Behind the path of a file that holds nothing any more that isn't elsewhere.
  private static let doneSuffix = ".done"

  /// Takes the file's name away, before anything is written past it. May be said again.
  static func setAside(_ path: String) throws(SystemError) {
    guard unsafe rename(path, path + doneSuffix) == 0 || errno == ENOENT else {
      throw SystemError("rename \(path)")
    }
    try syncFolder(of: path)
  }

  /// Whether a file was set aside, and none has its name.
  static func isSetAside(_ path: String) -> Bool {
    var status = stat()
    guard unsafe lstat(path, &status) != 0, errno == ENOENT else { return false }
    return unsafe lstat(path + doneSuffix, &status) == 0
  }

  /// Gives the file its name again; throws `EEXIST` where another one has it.
  static func takeBack(_ path: String) throws(SystemError) {
    guard unsafe link(path + doneSuffix, path) == 0 else { throw SystemError("rename \(path)") }
    try syncFolder(of: path)
    guard unsafe unlink(path + doneSuffix) == 0 else { throw SystemError("rename \(path)") }
  }

  /// Removes the file under both names; it need not be there.
  static func remove(_ path: String) throws(SystemError) {
    for name in [path, path + doneSuffix] {
      guard unsafe unlink(name) == 0 || errno == ENOENT else { throw SystemError("remove \(name)") }
    }
    try syncFolder(of: path)
  }

  /// The size of a file in bytes, in whole sectors as QEMU counts it.
  static func wholeSectors(_ path: String) throws(SystemError) -> UInt64 {
    var status = stat()
    guard unsafe stat(path, &status) == 0, status.st_size >= 0 else {
      throw SystemError("look at \(path)")
    }
    return (UInt64(status.st_size) + 511) & ~511
  }

  private static func syncFolder(of path: String) throws(SystemError) {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    let raw = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard raw >= 0 else { throw SystemError("open \(folder)") }
    let descriptor = Descriptor(owning: raw)
    guard fsync(descriptor.raw) == 0 else { throw SystemError("flush \(folder)") }
  }
}
