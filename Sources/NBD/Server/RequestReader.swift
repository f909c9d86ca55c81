public import Base

/// Reads and judges requests in transmission. Sans-IO: the driver has at least `headerByteCount`
/// bytes, and takes a write's data from the connection itself.
public struct RequestReader: Sendable {
  /// A header that was read.
  public struct Item: Sendable, Hashable {
    public let cookie: UInt64
    public let offset: UInt64
    /// What is to be done, or why the request is refused.
    public let request: Result<NBDRequest, Refusal>
    /// Data that follow the header, in bytes: to be written, or skipped when refused.
    public let payloadByteCount: UInt64
  }
  /// Why a request is not carried out.
  public struct Refusal: Error, Sendable, Hashable {
    public let code: NBDError
    public let message: String

    public init(_ code: NBDError, _ message: String) {
      (self.code, self.message) = (code, message)
    }
  }

  public let session: ServerSession
  /// 28 bytes, with extended headers 32.
  public var headerByteCount: Int { session.mode.requestByteCount }

  /// The session tells which requests are refused: by the export's flags, block sizes and length,
  /// and by whether there are contexts.
  public init(_ session: ServerSession) { self.session = session }

  /// Reads one header from the start of `bytes`.
  ///
  /// Throws when the connection can't go on: no header where one has to be, or more data than are
  /// ever skipped.
  public func read(_ bytes: RawSpan) throws(DecodeError) -> Item {
    var cursor = ByteCursor(bytes)
    let isExtended = session.mode == .extended
    let expected = isExtended ? NBDMagic.extendedRequest : NBDMagic.request
    let magic: UInt32 = try cursor.readBE()
    guard magic == expected else {
      throw DecodeError(
        .badMagic, in: "NBD request", at: 0, found: UInt64(magic), limit: UInt64(expected))
    }
    let flags = CommandFlags(rawValue: try cursor.readBE())
    let code: UInt16 = try cursor.readBE()
    let cookie: UInt64 = try cursor.readBE()
    let offset: UInt64 = try cursor.readBE()
    let length = isExtended ? try cursor.readBE() : UInt64(try cursor.readBE(UInt32.self))
    let command = NBDCommand(rawValue: code)
    // A write without the flag is a mistake; it has its data all the same.
    let hasPayload = command == .write || (isExtended && flags.contains(.payloadLength))
    let payload = hasPayload ? length : 0
    guard payload <= NBDLimits.skippedBytesMax else {
      throw DecodeError(
        .overLimit, in: "NBD request's data", at: 24, found: payload,
        limit: NBDLimits.skippedBytesMax)
    }
    var request = NBDRequest(
      command ?? .resize, flags: flags, cookie: cookie, offset: offset, length: length)
    if isExtended, command == .write { request.flags.remove(.payloadLength) }
    let refusal =
      command == nil ? Refusal(.invalid, "unknown command \(code)") : judge(request)
    return Item(
      cookie: cookie, offset: offset, request: refusal.map { .failure($0) } ?? .success(request),
      payloadByteCount: payload)
  }

  /// What is wrong with a request, or nil.
  private func judge(_ request: NBDRequest) -> Refusal? {
    let export = session.export
    guard request.flags.isSubset(of: allowedFlags(request.command)) else {
      return Refusal(.invalid, "a flag that this command doesn't have")
    }
    switch request.command {
    case .disconnect: return nil
    case .flush:
      guard isOffered(.flush) else { return Refusal(.invalid, "flush is not offered") }
      return request.offset == 0 && request.length == 0
        ? nil : Refusal(.invalid, "a flush has no range")
    case .resize: return Refusal(.notSupported, "the size is fixed")
    case .read, .write:
      guard request.length <= UInt64(export.blockSizes.maximum) else {
        return Refusal(.invalid, "more than \(export.blockSizes.maximum) bytes")
      }
    case .blockStatus:
      guard !session.contexts.isEmpty else {
        return Refusal(.invalid, "no metadata context was agreed on")
      }
    case .trim, .cache, .writeZeroes: break
    }
    if request.command.isChange, export.flags.contains(.readOnly) {
      return Refusal(.notPermitted, "the export is read-only")
    }
    guard isOffered(request.command) else {
      return Refusal(.invalid, "this export doesn't have the command")
    }
    return judgeRange(request)
  }

  private func judgeRange(_ request: NBDRequest) -> Refusal? {
    let (export, range) = (session.export, (request.offset, request.length))
    guard range.1 > 0 else { return Refusal(.invalid, "an empty range") }
    guard range.0 <= export.byteCount, range.1 <= export.byteCount - range.0 else {
      let isSpace = request.command == .write || request.command == .writeZeroes
      return Refusal(isSpace ? .noSpace : .invalid, "beyond the end of the export")
    }
    guard (range.0 | range.1) & UInt64(export.blockSizes.minimum - 1) == 0 else {
      return Refusal(.invalid, "no multiple of \(export.blockSizes.minimum) bytes")
    }
    return nil
  }

  private func allowedFlags(_ command: NBDCommand) -> CommandFlags {
    // Harmless with every command, once it was offered.
    var allowed: CommandFlags = session.export.flags.contains(.sendFUA) ? .fua : []
    switch command {
    case .read: if session.mode > .simple { allowed.insert(.doNotFragment) }
    case .writeZeroes:
      allowed.insert(.noHole)
      if session.export.flags.contains(.sendFastZero) { allowed.insert(.fastZero) }
    case .blockStatus: allowed.insert(.requestOne)
    default: break
    }
    return allowed
  }

  private func isOffered(_ command: NBDCommand) -> Bool {
    let flags = session.export.flags
    return switch command {
    case .flush: flags.contains(.sendFlush)
    case .trim: flags.contains(.sendTrim)
    case .cache: flags.contains(.sendCache)
    case .writeZeroes: flags.contains(.sendWriteZeroes)
    default: true
    }
  }
}
