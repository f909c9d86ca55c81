import CLinux
import Glibc
import HostIO

/// Locks on an image that QEMU's tools and other servers see: byte 100 + n of the file is locked by who
/// uses permission n, byte 200 + n by who doesn't want others to use it.
///
/// They belong to the open file and are gone when they are given back, or its process dies.
enum ImageLock {
  /// Writing, as QEMU counts permissions; reading consistently is 0.
  private static let write: off_t = 1

  /// Takes the locks on an open image; what is in the way, or nil.
  static func take(_ raw: Int32, readOnly: Bool) -> String? {
    let used: [off_t] = readOnly ? [0] : [0, write]
    let locked = used.map { 100 + $0 } + [200 + write]
    for byte in locked where godwit_lock_byte(raw, byte) != 0 {
      // A file system without locks can't protect anybody from anything.
      return errno == EAGAIN || errno == EACCES ? "it is locked by another program" : nil
    }
    for permission in used where godwit_is_byte_locked(raw, 200 + permission) == 1 {
      // Two readers keep writers out, and not each other.
      if readOnly || permission != write { continue }
      return "it is in use by another program"
    }
    if godwit_is_byte_locked(raw, 100 + write) == 1 { return "another program writes to it" }
    return nil
  }

  /// Gives the locks back. A program that is being started has the file open, too, until it runs: closing it here alone
  /// frees nothing yet.
  static func free(_ raw: Int32) { godwit_unlock_bytes(raw) }

  /// Whether a program that locks images has it open for writing. False also where nobody can tell.
  static func isWrittenTo(_ path: String) -> Bool {
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard raw >= 0 else { return false }
    let file = Descriptor(owning: raw)
    return godwit_is_byte_locked(file.raw, 100 + write) == 1
  }
}
