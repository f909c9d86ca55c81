/// The unit of everything Godwit does with memory: QEMU's target page on x86, 4 KiB.
public enum Page {
  /// Bytes per page.
  public static let size = 4096
  public static let shift = 12

  /// Pages that `bytes` need, rounded up.
  @inlinable public static func count(bytes: UInt64) -> Int {
    Int((bytes >> UInt64(shift)) + (bytes & UInt64(size - 1) == 0 ? 0 : 1))
  }
}

extension RawSpan {
  /// Whether every byte is zero. A length that is a multiple of 64 takes the fast path.
  @inlinable public var isAllZero: Bool {
    var offset = 0
    let end = byteCount & ~63
    while offset < end {
      // SAFETY: offset + 64 <= byteCount by the loop's bound; any bit pattern is a valid vector.
      let part = unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: SIMD8<UInt64>.self)
      if part != SIMD8<UInt64>.zero { return false }
      offset &+= 64
    }
    while offset < byteCount {
      // SAFETY: as above, one byte at a time.
      if unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self) != 0 { return false }
      offset &+= 1
    }
    return true
  }
}
