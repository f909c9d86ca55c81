import Base

/// Structured and extended answers.
extension ReplyReader {
  private struct Chunk {
    let isLast: Bool
    let kind: UInt16
    let cookie: UInt64
    /// Bytes of payload.
    let length: UInt64
  }

  /// After the magic; nil when the payload isn't there as a whole.
  mutating func chunk(_ cursor: inout ByteCursor) throws(DecodeError) -> Event? {
    let flags: UInt16 = try cursor.readBE()
    let kind: UInt16 = try cursor.readBE()
    let cookie: UInt64 = try cursor.readBE()
    guard var request = pending[cookie] else { throw Self.unknown(cookie) }
    var length: UInt64
    if session.mode == .extended {
      let offset: UInt64 = try cursor.readBE()
      guard offset == request.request.offset else {
        throw DecodeError(.badValue, in: "NBD reply's offset", at: 16, found: offset)
      }
      length = try cursor.readBE()
    } else {
      length = UInt64(try cursor.readBE(UInt32.self))
    }
    let chunk = Chunk(
      isLast: flags & ChunkKind.done != 0, kind: kind, cookie: cookie, length: length)
    guard let event = try payload(chunk, &request, &cursor) else { return nil }
    request.hasChunks = true
    if chunk.isLast {
      guard request.isComplete else {
        throw DecodeError(.truncated, in: "NBD reply that ends early", at: 0)
      }
      pending[cookie] = nil
    } else {
      pending[cookie] = request
    }
    return event
  }

  private func payload(
    _ chunk: Chunk, _ request: inout PendingRequest, _ cursor: inout ByteCursor
  ) throws(DecodeError) -> Event? {
    if chunk.kind == ChunkKind.data { return try data(chunk, &request, &cursor) }
    guard chunk.length <= UInt64(Self.byteCountMax - 32) else {
      throw Self.bad(chunk, .overLimit)
    }
    guard cursor.remaining >= Int(chunk.length) else { return nil }
    var fields = ByteCursor(try cursor.take(Int(chunk.length)))
    let event: Event
    switch chunk.kind {
    case ChunkKind.none:
      guard chunk.isLast else { throw Self.bad(chunk) }
      event = .done(cookie: chunk.cookie)
    case ChunkKind.hole:
      let offset: UInt64 = try fields.readBE()
      let count = UInt64(try fields.readBE(UInt32.self))
      guard request.cover(offset, count) else { throw Self.bad(chunk) }
      event = .zeros(cookie: chunk.cookie, offset: offset, count: count, last: chunk.isLast)
    case ChunkKind.status where session.mode == .structured,
      ChunkKind.statusExtended where session.mode == .extended:
      event = try status(chunk, &request, &fields)
    default:
      // Unknown errors are errors, too.
      guard chunk.kind >> 15 == 1 else { throw Self.bad(chunk) }
      event = try failure(chunk, &request, &fields)
    }
    guard fields.remaining == 0 else { throw Self.bad(chunk) }
    return event
  }

  private func data(
    _ chunk: Chunk, _ request: inout PendingRequest, _ cursor: inout ByteCursor
  ) throws(DecodeError) -> Event? {
    guard cursor.remaining >= 8 else { return nil }
    let offset: UInt64 = try cursor.readBE()
    guard chunk.length > 8, request.cover(offset, chunk.length - 8) else { throw Self.bad(chunk) }
    return .data(
      cookie: chunk.cookie, offset: offset, count: Int(chunk.length - 8), last: chunk.isLast)
  }

  private func failure(
    _ chunk: Chunk, _ request: inout PendingRequest, _ fields: inout ByteCursor
  ) throws(DecodeError) -> Event {
    let error: UInt32 = try fields.readBE()
    let length = Int(try fields.readBE(UInt16.self))
    guard error != 0, length <= NBDLimits.stringBytesMax else { throw Self.bad(chunk) }
    var text: [UInt8] = []
    text.append(contentsOf: try fields.take(length))
    if chunk.kind == ChunkKind.errorOffset {
      _ = try fields.take(8)
    } else {
      _ = try fields.take(chunk.kind == ChunkKind.error ? 0 : fields.remaining)
    }
    request.hasFailed = true
    return .failed(
      cookie: chunk.cookie, NBDError(rawValue: error),
      message: String(decoding: text, as: UTF8.self), last: chunk.isLast)
  }

  private func status(
    _ chunk: Chunk, _ request: inout PendingRequest, _ fields: inout ByteCursor
  ) throws(DecodeError) -> Event {
    let context: UInt32 = try fields.readBE()
    let isExtended = chunk.kind == ChunkKind.statusExtended
    if isExtended {
      let count: UInt32 = try fields.readBE()
      guard count == 0 || fields.remaining == Int(count) * 16 else { throw Self.bad(chunk) }
    }
    guard request.request.command == .blockStatus, !request.told.contains(context),
      session.contexts.contains(where: { $0.id == context }),
      fields.remaining > 0, fields.remaining.isMultiple(of: isExtended ? 16 : 8)
    else { throw Self.bad(chunk) }
    var extents: [NBDExtent] = []
    var total: UInt64 = 0
    while fields.remaining > 0 {
      let extent =
        isExtended
        ? NBDExtent(length: try fields.readBE(), flags: try fields.readBE())
        : NBDExtent(
          length: UInt64(try fields.readBE(UInt32.self)),
          flags: UInt64(try fields.readBE(UInt32.self)))
      let sum = total.addingReportingOverflow(extent.length)
      guard extent.length > 0, !sum.overflow else { throw Self.bad(chunk) }
      total = sum.partialValue
      extents.append(extent)
    }
    request.told.append(context)
    return .status(
      cookie: chunk.cookie, context: context, extents: extents, last: chunk.isLast)
  }

  private static func bad(_ chunk: Chunk, _ code: DecodeError.Code = .badValue) -> DecodeError {
    DecodeError(
      code, in: "NBD reply chunk", at: 4, found: UInt64(chunk.kind), limit: chunk.length)
  }
}
