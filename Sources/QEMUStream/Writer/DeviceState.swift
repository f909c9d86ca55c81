public import Base

/// The device state of a pre-copy stream: its tail without EOF and description.
///
/// FULL sections have no length, so only the end of the tail tells where they end:
/// `StreamVisitor.ended` gives the length of the description behind them.
public struct DeviceState: Sendable, Hashable {
  /// FULL sections, from the first type byte to the last footer.
  public let bytes: [UInt8]

  /// Cuts a tail.
  ///
  /// - Parameters:
  ///   - tail: all bytes behind RAM's END section.
  ///   - descriptionLength: as the reader said; not trusted. 0: there is no description.
  public init(tail: [UInt8], descriptionLength: Int) throws(DecodeError) {
    let headLength = descriptionLength > 0 ? 6 : 1
    guard descriptionLength >= 0, descriptionLength <= tail.count - headLength else {
      throw DecodeError(
        .truncated, in: "device state", at: 0, found: UInt64(tail.count),
        limit: UInt64(clamping: descriptionLength))
    }
    let end = tail.count - descriptionLength - headLength
    var expected: [UInt8] = [StreamFormat.Record.endOfFile]
    if descriptionLength > 0 {
      expected.append(StreamFormat.Record.description)
      expected.appendBE(UInt32(clamping: descriptionLength))
    }
    guard Array(tail[end..<end + headLength]) == expected else {
      throw DecodeError(
        .badValue, in: "end of the device state", at: UInt64(end), found: UInt64(tail[end]))
    }
    try self.init(sections: Array(tail[..<end]))
  }

  /// - Parameter sections: as in `bytes`, cut out elsewhere.
  public init(sections: [UInt8]) throws(DecodeError) {
    if let first = sections.first, first != StreamFormat.Record.full {
      throw DecodeError(.outOfOrder, in: "device state", at: 0, found: UInt64(first))
    }
    bytes = sections
  }
}
