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
}
