public import Base

/// A server's side of the fixed newstyle handshake, up to transmission. Sans-IO.
///
/// The driver sends `takeOutput()` after `init` and after each `receive`. Bytes that `receive` leaves
/// belong to what comes next.
public struct ServerHandshake: Sendable {
  /// How far TLS is; what was agreed on before it is forgotten behind it.
  public enum Security: Sendable, Hashable {
    /// No encryption here.
    case none
    /// Nothing but STARTTLS and ABORT before TLS.
    case required
    /// TLS is there.
    case established
  }
  /// Why the handshake is over, or what the driver does next.
  public enum Outcome: Sendable, Hashable {
    case transmission(ServerSession)
    /// After the output was sent, TLS begins on the socket; then a handshake machine goes on by
    /// `afterTLS`. Bytes that arrived before TLS began are an attack: the driver drops the connection.
    case startTLS
    /// The client left as the protocol wants it.
    case aborted
  }

  static let fixedNewstyle: UInt16 = 1
  static let noZeroes: UInt16 = 2

  private enum State: Sendable {
    case clientFlags
    case option
    case skipping(UInt64)
    case over
  }

  let exports: [NBDExport]
  private(set) var security: Security
  private var state: State
  private var sendsZeroes = true
  private var optionCount = 0
  private var byteCount: UInt64 = 0
  var mode = ReplyMode.simple
  /// The export and the numbers of the contexts that SET_META_CONTEXT chose.
  var selected: (index: Int, ids: [UInt32])?
  /// Exports for which the client asked for the block sizes.
  var knowsBlockSizes: Set<Int> = []
  var output = OptionWriter()

  /// - Parameter exports: with distinct names; a client that names none (`""`) gets the first.
  public init(exports: [NBDExport], security: Security) {
    (self.exports, self.security, state) = (exports, security, .clientFlags)
    output.greet()
  }

  /// The same handshake behind TLS, where everything that was agreed on before is forgotten.
  public func afterTLS() -> ServerHandshake {
    var next = self
    (next.security, next.mode, next.selected) = (.established, .simple, nil)
    (next.knowsBlockSizes, next.state) = ([], .option)
    return next
  }

  /// Bytes for the client.
  public mutating func takeOutput() -> [UInt8] { output.take() }

  /// Takes bytes of the client's. Returns how many were used, and the outcome once there is one.
  ///
  /// Throws when the protocol has no answer but to close the connection (after sending the output).
  public mutating func receive(
    _ bytes: RawSpan
  ) throws(DecodeError) -> (used: Int, outcome: Outcome?) {
    var cursor = ByteCursor(bytes)
    while true {
      let start = cursor.position
      switch state {
      case .over: return (start, nil)
      case .clientFlags:
        guard cursor.remaining >= 4 else { return (start, nil) }
        try readClientFlags(&cursor)
      case .skipping(let left):
        let count = Int(min(left, UInt64(cursor.remaining)))
        _ = try cursor.take(count)
        state = left == UInt64(count) ? .option : .skipping(left - UInt64(count))
        if left > UInt64(count) { return (cursor.position, nil) }
      case .option:
        guard cursor.remaining >= 16 else { return (start, nil) }
        guard let outcome = try readOption(&cursor) else { return (start, nil) }
        if let outcome = outcome.value {
          state = .over
          return (cursor.position, outcome)
        }
      }
    }
  }

  private mutating func readClientFlags(_ cursor: inout ByteCursor) throws(DecodeError) {
    let flags: UInt32 = try cursor.readBE()
    // A client that isn't fixed newstyle could not make sense of answers to options.
    guard flags & ~3 == 0, flags & UInt32(Self.fixedNewstyle) != 0 else {
      throw DecodeError(.badValue, in: "NBD client flags", at: 0, found: UInt64(flags))
    }
    sendsZeroes = flags & UInt32(Self.noZeroes) == 0
    state = .option
  }

  struct Step { var value: Outcome? }

  /// nil: the option isn't there as a whole yet.
  private mutating func readOption(_ cursor: inout ByteCursor) throws(DecodeError) -> Step? {
    let place = byteCount
    let magic: UInt64 = try cursor.readBE()
    guard magic == NBDMagic.option else {
      throw DecodeError(
        .badMagic, in: "NBD option", at: place, found: magic, limit: NBDMagic.option)
    }
    let code: UInt32 = try cursor.readBE()
    let length: UInt32 = try cursor.readBE()
    let isSmall = length <= UInt32(NBDLimits.optionBytesMax)
    if isSmall, cursor.remaining < Int(length) { return nil }
    try count(length)
    guard isSmall else {
      if code == NBDOption.exportName.rawValue { throw noSuchExport() }
      output.refuse(code, .tooBig, "\(length) bytes are too many")
      state = .skipping(UInt64(length))
      return Step()
    }
    let data = try cursor.take(Int(length))
    guard let option = NBDOption(rawValue: code) else {
      if security == .required {
        output.refuse(code, .tlsRequired, "TLS first")
      } else {
        output.refuse(code, .unsupported, "unknown option")
      }
      return Step()
    }
    return Step(value: try answer(option, data))
  }

  private mutating func count(_ length: UInt32) throws(DecodeError) {
    optionCount += 1
    byteCount += 16 + UInt64(length)
    guard optionCount <= NBDLimits.optionsMax, byteCount <= NBDLimits.handshakeBytesMax else {
      throw DecodeError(
        .overLimit, in: "NBD handshake", at: byteCount, found: UInt64(optionCount),
        limit: UInt64(NBDLimits.optionsMax))
    }
  }

  func noSuchExport() -> DecodeError {
    DecodeError(.badName, in: "NBD export name", at: byteCount)
  }

  private mutating func answer(
    _ option: NBDOption, _ data: RawSpan
  ) throws(DecodeError) -> Outcome? {
    if security == .required, option != .startTLS, option != .abort {
      // EXPORT_NAME has no answer that says no.
      if option == .exportName { throw noSuchExport() }
      output.refuse(option.rawValue, .tlsRequired, "TLS first")
      return nil
    }
    switch option {
    case .exportName: return try exportName(data)
    case .abort:
      output.reply(option.rawValue, .ack)
      return .aborted
    case .list: list(data)
    case .startTLS: return startTLS(data)
    case .info, .go: return infoOrGo(option, data)
    case .structuredReply, .extendedHeaders: chooseMode(option, data)
    case .listMetaContext, .setMetaContext: metaContext(option, data)
    }
    return nil
  }

  private mutating func startTLS(_ data: RawSpan) -> Outcome? {
    let option = NBDOption.startTLS.rawValue
    if data.byteCount > 0 {
      output.refuse(option, .invalid, "no data expected")
    } else if security == .established {
      output.refuse(option, .invalid, "TLS is there already")
    } else if security == .none {
      output.refuse(option, .policy, "TLS is not used here")
    } else {
      output.reply(option, .ack)
      return .startTLS
    }
    return nil
  }

  private mutating func exportName(_ data: RawSpan) throws(DecodeError) -> Outcome? {
    guard data.byteCount <= NBDLimits.stringBytesMax, let name = String(validatingUTF8: data),
      let index = find(name), canIgnoreBlockSizes(index)
    else { throw noSuchExport() }
    let session = session(index)
    output.exportName(session.export, zeroes: sendsZeroes)
    return .transmission(session)
  }
}
