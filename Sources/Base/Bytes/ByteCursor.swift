/// Reads integers and sub-spans from borrowed bytes; never copies.
///
/// Invariant: `0 <= position <= bytes.byteCount`.
public struct ByteCursor: ~Escapable {
  @usableFromInline let bytes: RawSpan
  /// Bytes read so far, from the start of the span.
  @inlinable public var position: Int { offset }
  @usableFromInline var offset = 0

  /// Starts at the first byte. The cursor, and every span it gives out, lives no longer than
  /// `bytes`.
  @inlinable @_lifetime(copy bytes)
  public init(_ bytes: RawSpan) { self.bytes = bytes }

  /// Bytes of the span not read yet.
  @inlinable public var remaining: Int { bytes.byteCount &- offset }

  /// Reads one big-endian integer (NBD, the QEMU stream and Godwit's own frames are big-endian).
  @inlinable @_lifetime(self: copy self)
  public mutating func readBE<T: FixedWidthInteger & BitwiseCopyable>(
    _: T.Type = T.self
  ) throws(DecodeError) -> T {
    let size = MemoryLayout<T>.size
    guard size <= remaining else { throw short(size) }
    // SAFETY: in bounds by the guard; T is an integer, so every bit pattern is valid.
    let raw = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self)
    offset &+= size  // cannot overflow: position + size <= byteCount
    return T(bigEndian: raw)
  }

  /// Borrows the next `count` bytes.
  @inlinable @_lifetime(copy self)
  public mutating func take(_ count: Int) throws(DecodeError) -> RawSpan {
    guard count >= 0, count <= remaining else { throw short(count) }
    defer { offset &+= count }
    return bytes.extracting(offset..<(offset &+ count))
  }

  /// Reads `count` bytes of UTF-8.
  public mutating func readString(_ count: Int) throws(DecodeError) -> String {
    let start = offset
    let span = try take(count)
    guard let text = String(validatingUTF8: span) else {
      throw DecodeError(.badName, in: "string", at: UInt64(start))
    }
    return text
  }

  @usableFromInline func short(_ need: Int) -> DecodeError {
    DecodeError(
      .truncated, at: UInt64(offset), found: UInt64(remaining), limit: UInt64(clamping: need))
  }
}

extension String {
  /// Copies `bytes` when they are valid UTF-8; nil otherwise.
  public init?(validatingUTF8 bytes: RawSpan) {
    // SAFETY: the pointer does not leave the closure.
    let copied = unsafe bytes.withUnsafeBytes { raw in unsafe Array(raw) }
    self.init(validating: copied, as: UTF8.self)
  }
}
