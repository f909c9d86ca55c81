public import Base

extension StreamCommand {
  /// Decodes a whole record, as `StreamVisitor.verbatim` gives it with `.command`: type byte,
  /// code, length, data. Nil when the code is not known. Offsets in errors count from the record.
  public init?(record: RawSpan) throws(DecodeError) {
    var cursor = ByteCursor(record)
    let type = try cursor.readBE(UInt8.self)
    guard type == StreamFormat.Record.command else {
      throw DecodeError(.badValue, in: "command", at: 0, found: UInt64(type))
    }
    let code = try cursor.readBE(UInt16.self)
    let length = Int(try cursor.readBE(UInt16.self))
    let data = try cursor.take(length)
    guard cursor.remaining == 0 else {
      throw DecodeError(
        .overLimit, in: "command", at: 0, found: UInt64(record.byteCount), limit: UInt64(length + 5)
      )
    }
    try self.init(code: code, data: data)
  }

  /// Decodes a command's data. Nil when the code is not known.
  public init?(code: UInt16, data: RawSpan) throws(DecodeError) {
    var cursor = ByteCursor(data)
    switch code {
    case 1: self = .openReturnPath
    case 2: self = .ping(try cursor.readBE())
    case 3 where data.byteCount == 0: self = .postcopyAdvise(nil)
    case 3:
      self = .postcopyAdvise(
        PageSizes(summary: try cursor.readBE(), targetPage: try cursor.readBE()))
    case 4: self = .postcopyListen
    case 5: self = .postcopyRun
    case 6: self = try Self.decodeDiscard(&cursor)
    case 7: self = .packaged(length: try cursor.readBE())
    case 8: self = .enableCOLO
    case 9: self = .postcopyResume
    case 10: self = .receivedBitmap(block: try cursor.readCountedString())
    case 11: self = .switchoverStart
    default: return nil
    }
    guard cursor.remaining == 0 else {
      throw DecodeError(
        .overLimit, in: "command data", at: UInt64(cursor.position), found: UInt64(data.byteCount),
        limit: UInt64(cursor.position))
    }
  }

  private static func decodeDiscard(_ cursor: inout ByteCursor) throws(DecodeError) -> Self {
    let version = try cursor.readBE(UInt8.self)
    guard version == 0 else {
      throw DecodeError(.badVersion, in: "RAM discard", at: 0, found: UInt64(version), limit: 0)
    }
    let block = try cursor.readCountedString()
    let terminator = try cursor.readBE(UInt8.self)
    guard terminator == 0 else {
      throw DecodeError(
        .badValue, in: "RAM discard", at: UInt64(cursor.position), found: UInt64(terminator))
    }
    var ranges: [DiscardRange] = []
    while cursor.remaining > 0 {
      ranges.append(DiscardRange(start: try cursor.readBE(), length: try cursor.readBE()))
    }
    return .ramDiscard(block: block, ranges: ranges)
  }
}
