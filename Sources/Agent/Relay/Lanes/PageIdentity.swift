import Base
import Crypto

/// What identifies a page's content across guests and hosts, whatever an attacker does: SHA-256.
enum PageIdentity {
  static let byteCount = 32

  static func bytes(of page: RawSpan) -> [UInt8] { Array(digest(of: page)) }

  /// Writes the identity to the first 32 bytes of `target`.
  static func write(of page: RawSpan, to target: UnsafeMutableRawBufferPointer) {
    unsafe digest(of: page).withUnsafeBytes { unsafe target.copyMemory(from: $0) }
  }

  private static func digest(of page: RawSpan) -> SHA256.Digest {
    var hash = SHA256()
    // SAFETY: the pointer does not leave the closure.
    unsafe page.withUnsafeBytes { unsafe hash.update(bufferPointer: $0) }
    return hash.finalize()
  }
}
