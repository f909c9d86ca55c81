import CLinux
import Glibc

/// Space on disk for what is written later.
public enum FileSpace {
  /// Takes blocks for the first `bytes` bytes of a file; its size stays as it is.
  ///
  /// Throws when the disk is full. A file system that cannot reserve is no error: there a full disk
  /// shows when the file is written.
  public static func reserve(_ file: Int32, bytes: Int, for what: String) throws(SystemError) {
    while godwit_reserve_space(file, off_t(bytes)) != 0 {
      if errno == EINTR { continue }
      guard errno != ENOSPC, errno != EDQUOT else { throw SystemError("reserve space for \(what)") }
      return
    }
  }

  /// Bytes that ordinary files may still take where `path` lies; nil when the file system does not say.
  public static func available(at path: String) -> UInt64? {
    var status = statvfs()
    guard unsafe statvfs(path, &status) == 0 else { return nil }
    let (bytes, overflow) = UInt64(status.f_bavail).multipliedReportingOverflow(
      by: UInt64(status.f_frsize))
    return overflow ? .max : bytes
  }

  /// Bytes that a file takes on its disk; nil for what is no file.
  public static func taken(by path: String) -> UInt64? {
    var status = stat()
    guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return UInt64(clamping: status.st_blocks) * 512
  }
}
