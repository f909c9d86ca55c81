import Base

/// Writes a server's answers in transmission, in the mode that was agreed on. Sans-IO.
///
/// Data are not copied: the driver sends `count` bytes of them right behind a header that says so.
public struct ReplyWriter: Sendable {
  /// Longest header of an answer with data, in bytes.
  public static let dataHeaderByteCountMax = 40

  public let mode: ReplyMode

  public init(_ mode: ReplyMode) { self.mode = mode }

  /// Done, with nothing to tell.
  public func success(_ request: NBDRequest, into out: inout [UInt8]) {
    if mode == .extended {
      extendedHeader(ChunkKind.none, done: true, request.cookie, request.offset, 0, &out)
    } else {
      simple(request.cookie, 0, &out)
    }
  }

  /// Failed; ends the request.
  ///
  /// - Parameter at: where in the export, when the request has failed there and data came before.
  public func failure(
    cookie: UInt64, offset: UInt64, _ error: NBDError, _ message: String = "", at: UInt64? = nil,
    into out: inout [UInt8]
  ) {
    guard mode > .simple else { return simple(cookie, error.rawValue, &out) }
    let text = message.utf8.prefix(NBDLimits.stringBytesMax)
    let length = 6 + text.count + (at == nil ? 0 : 8)
    let kind = at == nil ? ChunkKind.error : ChunkKind.errorOffset
    header(kind, done: true, cookie, offset, UInt64(length), &out)
    out.appendBE(error.rawValue)
    out.appendBE(UInt16(text.count))
    out += text
    if let at { out.appendBE(at) }
  }

  /// Before `count` bytes of data that were read at `offset`.
  ///
  /// Simple replies have no parts: there `offset` and `count` are the request's own.
  public func data(
    _ request: NBDRequest, at offset: UInt64, count: Int, last: Bool, into out: inout [UInt8]
  ) {
    guard mode > .simple else { return simple(request.cookie, 0, &out) }
    header(
      ChunkKind.data, done: last, request.cookie, request.offset, UInt64(8 + count), &out)
    out.appendBE(offset)
  }

  /// Zeros in place of data. Not in simple mode.
  public func hole(
    _ request: NBDRequest, at offset: UInt64, count: UInt32, last: Bool, into out: inout [UInt8]
  ) {
    precondition(mode > .simple)
    header(ChunkKind.hole, done: last, request.cookie, request.offset, 12, &out)
    out.appendBE(offset)
    out.appendBE(count)
  }

  /// The status of a range in one context, from the request's offset on. Not in simple mode.
  ///
  /// What doesn't fit is left out: clients ask again. With extended headers lengths have 64 bits.
  public func status(
    _ request: NBDRequest, context: UInt32, _ extents: [NBDExtent], last: Bool,
    into out: inout [UInt8]
  ) {
    precondition(mode > .simple && !extents.isEmpty)
    let countMax = request.flags.contains(.requestOne) ? 1 : NBDLimits.extentsMax
    let shown = extents.prefix(countMax)
    if mode == .extended {
      header(
        ChunkKind.statusExtended, done: last, request.cookie, request.offset,
        UInt64(8 + 16 * shown.count), &out)
      out.appendBE(context)
      out.appendBE(UInt32(shown.count))
      for extent in shown {
        out.appendBE(extent.length)
        out.appendBE(extent.flags)
      }
      return
    }
    // An extent that is too long for 32 bits is cut and ends the answer.
    let lengthMax: UInt64 = 0xFFFF_0000
    let cut = shown.firstIndex { $0.length > lengthMax }
    let kept = cut.map { shown[...$0] } ?? shown
    header(
      ChunkKind.status, done: last, request.cookie, request.offset, UInt64(4 + 8 * kept.count),
      &out)
    out.appendBE(context)
    for extent in kept {
      out.appendBE(UInt32(min(extent.length, lengthMax)))
      out.appendBE(UInt32(truncatingIfNeeded: extent.flags))
    }
  }

  private func simple(_ cookie: UInt64, _ error: UInt32, _ out: inout [UInt8]) {
    out.appendBE(NBDMagic.simpleReply)
    out.appendBE(error)
    out.appendBE(cookie)
  }

  private func header(
    _ kind: UInt16, done: Bool, _ cookie: UInt64, _ offset: UInt64, _ length: UInt64,
    _ out: inout [UInt8]
  ) {
    guard mode == .structured else {
      return extendedHeader(kind, done: done, cookie, offset, length, &out)
    }
    out.appendBE(NBDMagic.structuredReply)
    out.appendBE(done ? ChunkKind.done : 0)
    out.appendBE(kind)
    out.appendBE(cookie)
    out.appendBE(UInt32(length))  // at most the longest data and a few bytes
  }

  private func extendedHeader(
    _ kind: UInt16, done: Bool, _ cookie: UInt64, _ offset: UInt64, _ length: UInt64,
    _ out: inout [UInt8]
  ) {
    out.appendBE(NBDMagic.extendedReply)
    out.appendBE(done ? ChunkKind.done : 0)
    out.appendBE(kind)
    out.appendBE(cookie)
    out.appendBE(offset)
    out.appendBE(length)
  }
}
