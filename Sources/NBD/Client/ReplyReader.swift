public import Base

/// Reads a server's answers and holds them against what was asked. Sans-IO.
///
/// The driver notes each request with `expect` before it sends it, and takes the data of `.data` from
/// the connection itself, before the next `read`.
public struct ReplyReader: Sendable {
  /// What one answer, or one chunk of it, says. The request with that cookie is over with `last`,
  /// with `done`, and with nothing else.
  public enum Event: Sendable, Hashable {
    /// `count` bytes of data follow, which belong at `offset` of the export. `last`: they end it.
    case data(cookie: UInt64, offset: UInt64, count: Int, last: Bool)
    /// These bytes are zeros.
    case zeros(cookie: UInt64, offset: UInt64, count: UInt64, last: Bool)
    /// From the request's offset on.
    case status(cookie: UInt64, context: UInt32, extents: [NBDExtent], last: Bool)
    case failed(cookie: UInt64, NBDError, message: String, last: Bool)
    case done(cookie: UInt64)
  }

  /// Longest header and payload that are read as one, in bytes: an answer about status.
  public static let byteCountMax = 32 + 8 + 16 * NBDLimits.extentsMax

  public let session: ClientSession
  var pending: [UInt64: PendingRequest] = [:]

  public init(_ session: ClientSession) { self.session = session }

  /// Requests that are not answered yet.
  public var pendingCount: Int { pending.count }

  /// - Precondition: no request with that cookie is open, and `disconnect` has no answer.
  public mutating func expect(_ request: NBDRequest) {
    precondition(pending[request.cookie] == nil && request.command != .disconnect)
    pending[request.cookie] = PendingRequest(request)
  }

  /// Reads the next answer, or part of one. Returns nil when `bytes` don't hold it as a whole; without
  /// the data of `.data`, it fits into `byteCountMax`.
  public mutating func read(
    _ bytes: RawSpan
  ) throws(DecodeError) -> (event: Event, used: Int)? {
    var cursor = ByteCursor(bytes)
    guard cursor.remaining >= 4 else { return nil }
    let magic: UInt32 = try cursor.readBE()
    switch (magic, session.mode) {
    case (NBDMagic.simpleReply, .simple), (NBDMagic.simpleReply, .structured):
      guard cursor.remaining >= 12 else { return nil }
      let event = try simple(&cursor)
      return (event, cursor.position)
    case (NBDMagic.structuredReply, .structured), (NBDMagic.extendedReply, .extended):
      guard cursor.remaining >= (session.mode == .extended ? 28 : 16) else { return nil }
      guard let event = try chunk(&cursor) else { return nil }
      return (event, cursor.position)
    default:
      throw DecodeError(
        .badMagic, in: "NBD reply", at: 0, found: UInt64(magic),
        limit: UInt64(NBDMagic.structuredReply))
    }
  }

  private mutating func simple(_ cursor: inout ByteCursor) throws(DecodeError) -> Event {
    let error: UInt32 = try cursor.readBE()
    let cookie: UInt64 = try cursor.readBE()
    guard let request = pending[cookie] else { throw Self.unknown(cookie) }
    let command = request.request.command
    // Chunks are agreed on for these two, and where they began they have to end.
    let needsChunks =
      session.mode > .simple && (command == .read || command == .blockStatus || request.hasChunks)
    guard !needsChunks else {
      throw DecodeError(.outOfOrder, in: "NBD simple reply", at: 0, found: cookie)
    }
    pending[cookie] = nil
    if error != 0 {
      return .failed(cookie: cookie, NBDError(rawValue: error), message: "", last: true)
    }
    guard command == .read else { return .done(cookie: cookie) }
    return .data(
      cookie: cookie, offset: request.request.offset, count: Int(request.request.length), last: true
    )
  }

  static func unknown(_ cookie: UInt64) -> DecodeError {
    DecodeError(.outOfOrder, in: "NBD reply's cookie", at: 8, found: cookie)
  }
}
