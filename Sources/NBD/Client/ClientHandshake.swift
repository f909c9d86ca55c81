import Base

/// A client's side of the handshake: asks for the best that the server has, then for one export.
/// Sans-IO.
///
/// The driver sends `takeOutput()` after `init` and after each `receive`.
public struct ClientHandshake: Sendable {
  /// What the client wants.
  public struct Wish: Sendable, Hashable {
    /// Empty: the server's default export.
    public var exportName: String
    /// The best mode to ask for.
    public var mode: ReplyMode
    /// Contexts to ask for, by full name.
    public var contexts: [String]
    /// Ask for TLS before anything else.
    public var startsTLS = false

    public init(
      exportName: String, mode: ReplyMode = .extended, contexts: [String] = [NBDExtent.allocation]
    ) {
      (self.exportName, self.mode, self.contexts) = (exportName, mode, contexts)
    }
  }

  /// Answers to one option.
  static let answersMax = 256

  private enum State: Sendable { case greeting, asking(NBDOption), over }

  let wish: Wish
  private var state = State.greeting
  private var outbox: [UInt8] = []
  private var position: UInt64 = 0
  private var answerCount = 0
  /// The server has agreed to TLS: it begins on the socket, and then `afterTLS` goes on. Bytes that came
  /// behind the agreement are an attack.
  public private(set) var isReadyForTLS = false
  var mode = ReplyMode.simple
  var contexts: [ClientSession.Context] = []
  var export: (byteCount: UInt64, flags: ExportFlags)?
  var blockSizes = BlockSizes.usual
  var description = ""

  /// `takeOutput()` has nothing yet: the server speaks first.
  public init(_ wish: Wish) { self.wish = wish }

  /// The same handshake behind TLS.
  ///
  /// - Precondition: `isReadyForTLS`.
  public func afterTLS() -> ClientHandshake {
    precondition(isReadyForTLS)
    var next = self
    next.isReadyForTLS = false
    next.askForMode()
    return next
  }

  /// Bytes for the server.
  public mutating func takeOutput() -> [UInt8] {
    defer { outbox = [] }
    return outbox
  }

  /// Takes bytes of the server's. Returns how many were used, and the session once there is one.
  public mutating func receive(
    _ bytes: RawSpan
  ) throws(ClientError) -> (used: Int, session: ClientSession?) {
    var cursor = ByteCursor(bytes)
    while true {
      let start = cursor.position
      switch state {
      case .over: return (start, nil)
      case .greeting:
        guard cursor.remaining >= 18 else { return (start, nil) }
        do { try greeting(&cursor) } catch { throw .malformed(error) }
      case .asking(let option):
        let answer: OptionAnswer?
        do { answer = try OptionAnswer(reading: &cursor, to: option, at: position) } catch {
          throw .malformed(error)
        }
        guard let answer else { return (start, nil) }
        position += UInt64(cursor.position - start)
        if let session = try take(answer) {
          state = .over
          return (cursor.position, session)
        }
      }
    }
  }

  private mutating func greeting(_ cursor: inout ByteCursor) throws(DecodeError) {
    let first: UInt64 = try cursor.readBE()
    let second: UInt64 = try cursor.readBE()
    let flags: UInt16 = try cursor.readBE()
    guard first == NBDMagic.greeting, second == NBDMagic.option,
      flags & ServerHandshake.fixedNewstyle != 0
    else {
      throw DecodeError(
        .badMagic, in: "NBD greeting", at: 0, found: second, limit: NBDMagic.option)
    }
    position = 18
    outbox.appendBE(UInt32(flags & (ServerHandshake.fixedNewstyle | ServerHandshake.noZeroes)))
    if wish.startsTLS { ask(.startTLS) } else { askForMode() }
  }

  private mutating func askForMode() {
    switch wish.mode {
    case .extended: ask(.extendedHeaders)
    case .structured: ask(.structuredReply)
    case .simple: askForExport()
    }
  }

  private mutating func take(_ answer: OptionAnswer) throws(ClientError) -> ClientSession? {
    answerCount += 1
    guard answerCount <= Self.answersMax else {
      throw .malformed(
        DecodeError(
          .overLimit, in: "answers to an NBD option", at: position, found: UInt64(answerCount),
          limit: UInt64(Self.answersMax)))
    }
    switch answer.option {
    case .startTLS:
      if answer.reply.isError { throw answer.refusal }
      guard answer.reply == .ack else { throw .malformed(answer.malformed) }
      (state, isReadyForTLS) = (.over, true)
    case .extendedHeaders, .structuredReply: return try chose(answer)
    case .setMetaContext:
      if answer.reply == .metaContext { try note(context: answer) } else { askForExport() }
    default:
      if answer.reply.isError { throw answer.refusal }
      if answer.reply == .info {
        do { try note(info: answer) } catch { throw .malformed(error) }
      } else if answer.reply == .ack {
        guard let export else { throw .malformed(answer.malformed) }
        return ClientSession(
          byteCount: export.byteCount, description: description, flags: export.flags,
          blockSizes: blockSizes, mode: mode, contexts: contexts)
      }
    }
    return nil
  }

  private mutating func chose(_ answer: OptionAnswer) throws(ClientError) -> ClientSession? {
    if answer.reply == .ack {
      mode = answer.option == .extendedHeaders ? .extended : .structured
      if wish.contexts.isEmpty { askForExport() } else { askForContexts() }
    } else if !answer.reply.isError {
      throw .malformed(answer.malformed)
    } else if answer.option == .extendedHeaders {
      ask(.structuredReply)
    } else {
      askForExport()
    }
    return nil
  }

  private mutating func askForContexts() {
    var data: [UInt8] = []
    Self.append(wish.exportName, to: &data)
    data.appendBE(UInt32(wish.contexts.count))
    for context in wish.contexts { Self.append(context, to: &data) }
    ask(.setMetaContext, data)
  }

  private mutating func askForExport() {
    var data: [UInt8] = []
    Self.append(wish.exportName, to: &data)
    data.appendBE(UInt16(2))
    data.appendBE(InfoKind.blockSize)
    data.appendBE(InfoKind.description)
    ask(.go, data)
  }

  private static func append(_ text: String, to data: inout [UInt8]) {
    data.appendBE(UInt32(text.utf8.count))
    data += text.utf8
  }

  private mutating func ask(_ option: NBDOption, _ data: [UInt8] = []) {
    outbox.appendBE(NBDMagic.option)
    outbox.appendBE(option.rawValue)
    outbox.appendBE(UInt32(data.count))
    outbox += data
    state = .asking(option)
    answerCount = 0
  }
}
