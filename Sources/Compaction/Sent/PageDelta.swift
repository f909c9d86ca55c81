import Base
import CXXHash

/// A page made of the version before it and what differs.
public enum PageDelta {
  /// Of the whole page, to find out that the version before was another one.
  public static func check(_ page: RawSpan) -> UInt64 {
    // SAFETY: the pointer does not leave the closure.
    unsafe page.withUnsafeBytes { unsafe XXH3_64bits($0.baseAddress, $0.count) }
  }

  /// Turns the difference in `page` into the page: XOR with `old`, of the same length.
  public static func apply(_ old: RawSpan, to page: UnsafeMutableRawBufferPointer) {
    precondition(old.byteCount == page.count && page.count & 7 == 0)
    for offset in stride(from: 0, to: page.count, by: 8) {
      // SAFETY: both have as many bytes, a multiple of 8, by the precondition.
      let word = unsafe old.unsafeLoadUnaligned(
        fromUncheckedByteOffset: offset, as: UInt64.self)
      let changed = unsafe page.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      unsafe page.storeBytes(of: word ^ changed, toByteOffset: offset, as: UInt64.self)
    }
  }
}
