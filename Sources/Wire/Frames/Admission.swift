public import Base

/// The first bytes of an encrypted connection, from each side: whether it takes the other's
/// certificate. Nothing else is sent or read before both have said yes.
///
/// Layout: magic u32 `GWA1`, length u16, reason in UTF-8; an empty reason is a yes.
public struct Admission: Sendable, Hashable {
  public static let magic: UInt32 = 0x4757_4131
  public static let headerByteCount = 6
  public static let reasonBytesMax = 1024

  /// nil: welcome.
  public let refusal: String?

  public init(refusal: String? = nil) { self.refusal = refusal }

  /// Reads the fixed part; the reason's bytes follow, as many as this says.
  public static func reasonLength(decoding cursor: inout ByteCursor) throws(DecodeError) -> Int {
    let found = try cursor.readBE(UInt32.self)
    guard found == magic else {
      throw DecodeError(
        .badMagic, in: "admission", at: 0, found: UInt64(found), limit: UInt64(magic))
    }
    let length = Int(try cursor.readBE(UInt16.self))
    guard length <= reasonBytesMax else {
      throw DecodeError(
        .overLimit, in: "admission reason", at: 4, found: UInt64(length),
        limit: UInt64(reasonBytesMax))
    }
    return length
  }

  /// From the bytes behind the fixed part; none of them is a welcome. What isn't UTF-8 is replaced,
  /// not refused.
  public init(reason: [UInt8]) {
    self.init(refusal: reason.isEmpty ? nil : String(decoding: reason, as: UTF8.self))
  }

  /// Appends the fixed part and the reason, cut to `reasonBytesMax` bytes, be it inside a
  /// character.
  public func encode(into out: inout [UInt8]) {
    let reason = [UInt8]((refusal ?? "").utf8.prefix(Self.reasonBytesMax))
    out.appendBE(Self.magic)
    out.appendBE(UInt16(truncatingIfNeeded: reason.count))  // <= reasonBytesMax, fits
    out += reason
  }
}
