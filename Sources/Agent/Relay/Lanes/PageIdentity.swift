import Base
import Crypto

/// What identifies a page's content across guests and hosts, whatever an attacker does: SHA-256.
enum PageIdentity {
  static func bytes(of page: RawSpan) -> [UInt8] {
    var hash = SHA256()
    // SAFETY: the pointer does not leave the closure.
    unsafe page.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    return Array(hash.finalize())
  }
}
