public import Base

/// What a probe of the link may cost, whoever asks for it.
public enum ProbeLimits {
  /// Filler of one `probe` frame, in bytes: as large as the larger batches.
  public static let fillerMax = 256 << 10
  /// All filler that one connection may send, in bytes, and marks that it may ask for.
  public static let connectionBytesMax: UInt64 = 64 << 20
  public static let marksMax: UInt64 = 256
}

/// The payload of a `probeMark` frame. The side that probes asks for it with a number; the other sends it
/// back with what it had received on this connection by then.
///
/// Layout: number u64, filler bytes received u64, microseconds on the receiver's clock u64.
public struct ProbeMark: Sendable, Hashable {
  public static let byteCount = 24

  public let number: UInt64
  /// 0 in a question.
  public let receivedBytes, atUs: UInt64

  /// A question, where only the number is given; the answer adds what was received and when.
  public init(number: UInt64, receivedBytes: UInt64 = 0, atUs: UInt64 = 0) {
    (self.number, self.receivedBytes, self.atUs) = (number, receivedBytes, atUs)
  }

  /// Throws where the payload isn't exactly `byteCount` bytes.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    (number, receivedBytes) = (try cursor.readBE(), try cursor.readBE())
    atUs = try cursor.readBE()
    try cursor.expectEnd(of: "probe mark")
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(number)
    out.appendBE(receivedBytes)
    out.appendBE(atUs)
  }
}
