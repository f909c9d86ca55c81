/// Appending and storing of big-endian integers, the byte order of everything Godwit writes.
extension [UInt8] {
  /// Appends `T.bitWidth / 8` bytes, the most significant first; signed values in two's complement.
  @inlinable
  public mutating func appendBE<T: FixedWidthInteger>(_ value: T) {
    for shift in stride(from: T.bitWidth - 8, through: 0, by: -8) {
      append(UInt8(truncatingIfNeeded: value >> T(shift)))
    }
  }

  /// Appends a copy of borrowed bytes.
  @inlinable
  public mutating func append(contentsOf span: RawSpan) {
    // SAFETY: the pointer does not leave the closure.
    unsafe span.withUnsafeBytes { raw in unsafe append(contentsOf: raw) }
  }
}
