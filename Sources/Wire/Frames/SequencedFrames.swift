public import Base

/// The place of a frame in the log that the destination applies.
///
/// `sequence` counts from 1 without gaps over all lanes. The frame may be applied once every frame
/// with a sequence `<= after` has been; `after < sequence`. Layout: sequence u64, after u64.
public struct SequencedHeader: Sendable, Hashable {
  public static let byteCount = 16
  /// Most bytes of QEMU's stream in one `verbatim` or `tail` frame.
  public static let chunkMax = 1 << 20

  public let sequence, after: UInt64

  public init(sequence: UInt64, after: UInt64) {
    (self.sequence, self.after) = (sequence, after)
  }

  /// Throws unless `after < sequence`; that leaves no frame with the sequence 0.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    let sequence: UInt64 = try cursor.readBE()
    let after: UInt64 = try cursor.readBE()
    guard sequence > 0, after < sequence else {
      throw DecodeError(.badValue, in: "frame sequence", at: start, found: sequence, limit: after)
    }
    self.init(sequence: sequence, after: after)
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(sequence)
    out.appendBE(after)
  }
}

/// How far the destination is: every frame up to `appliedThrough` is applied. Layout: u64.
public struct Acknowledgement: Sendable, Hashable {
  public static let byteCount = 8
  public let appliedThrough: UInt64

  public init(appliedThrough: UInt64) { self.appliedThrough = appliedThrough }

  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    appliedThrough = try cursor.readBE()
  }

  public func encode(into out: inout [UInt8]) { out.appendBE(appliedThrough) }
}

/// What this side has taken off the control lane: every numbered frame up to `receivedThrough`, which
/// the peer need not keep any longer. The first frame on every connection but the first. Layout: u64.
public struct Heartbeat: Sendable, Hashable {
  public static let byteCount = 8
  public let receivedThrough: UInt64

  public init(receivedThrough: UInt64) { self.receivedThrough = receivedThrough }

  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    receivedThrough = try cursor.readBE()
  }

  public func encode(into out: inout [UInt8]) { out.appendBE(receivedThrough) }
}
