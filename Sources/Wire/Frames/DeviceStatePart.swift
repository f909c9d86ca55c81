public import Base

/// The payload of a `deviceState` frame, source to destination: a part of the devices' state, cut out of
/// QEMU's stream, for a guest that moves before its memory is complete. Sequenced, behind the last
/// `invalidPages` frame; the pages that follow it are those that were invalid.
///
/// Layout: sequence u64, after u64, flags u8 (1: last), bytes.
public struct DeviceStatePart: Sendable, Hashable {
  static let headByteCount = SequencedHeader.byteCount + 1
  public static let byteCountMax = headByteCount + SequencedHeader.chunkMax

  public let place: SequencedHeader
  /// The state is complete with this part.
  public let isLast: Bool
  /// At most `SequencedHeader.chunkMax`.
  public let bytes: [UInt8]

  /// - Precondition: `SequencedHeader.chunkMax` bytes at most.
  public init(place: SequencedHeader, isLast: Bool, bytes: [UInt8]) {
    precondition(bytes.count <= SequencedHeader.chunkMax)
    (self.place, self.isLast, self.bytes) = (place, isLast, bytes)
  }

  /// Takes everything that the cursor has left. Throws where a flag isn't known or the part is over
  /// `SequencedHeader.chunkMax`.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    place = try SequencedHeader(decoding: &cursor)
    let flags = try cursor.readBE(UInt8.self)
    guard flags <= 1 else {
      throw DecodeError(
        .badValue, in: "flags of device state", at: UInt64(SequencedHeader.byteCount),
        found: UInt64(flags))
    }
    isLast = flags == 1
    guard cursor.remaining <= SequencedHeader.chunkMax else {
      throw DecodeError(
        .overLimit, in: "device state", at: UInt64(cursor.position),
        found: UInt64(cursor.remaining), limit: UInt64(SequencedHeader.chunkMax))
    }
    var bytes: [UInt8] = []
    bytes.append(contentsOf: try cursor.take(cursor.remaining))
    self.bytes = bytes
  }

  public func encode(into out: inout [UInt8]) {
    place.encode(into: &out)
    out.append(isLast ? 1 : 0)
    out += bytes
  }
}
