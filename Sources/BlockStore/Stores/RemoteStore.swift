import Base
import Glibc
public import HostIO
import NBD
import Synchronization

/// A disk that another NBD server has.
///
/// Callers' threads send their own requests; a thread of the store's reads the answers, data straight
/// into the caller's buffer. When the connection breaks every open and later call fails; with a limit it also does
/// when the server owes answers and is silent.
@safe
public final class RemoteStore: DiskStore {
  /// Where the answer to one request goes. The caller waits until it is settled, so its buffer stays.
  @safe
  fileprivate final class Waiter: @unchecked Sendable {
    // Unchecked: the buffer is written by the reading thread alone, until `result` is set.
    let target: UnsafeMutableRawBufferPointer?
    let offset: UInt64
    let kind: SilenceWatch.Kind
    let result = Guarded<Result<[UInt32: [NBDExtent]], StoreError>?>(nil)
    /// By the context's number.
    var extents: [UInt32: [NBDExtent]] = [:]
    var failure: StoreError?

    init(
      target: UnsafeMutableRawBufferPointer?, offset: UInt64, _ kind: SilenceWatch.Kind
    ) {
      unsafe self.target = target
      (self.offset, self.kind) = (offset, kind)
    }

    /// `count` bytes of the target for data at `place`; the reader of replies has checked both.
    func part(_ place: UInt64, _ count: Int) -> UnsafeMutableRawBufferPointer? {
      guard let target = unsafe target else { return nil }
      let start = Int(place - offset)
      // SAFETY: the slice is bounds-checked.
      return unsafe UnsafeMutableRawBufferPointer(rebasing: target[start..<(start + count)])
    }

    func settle() { result.update { $0 = failure.map { .failure($0) } ?? .success(extents) } }
  }

  private struct State {
    var replies: ReplyReader
    var waiters: [UInt64: Waiter] = [:]
    var nextCookie: UInt64 = 1
    var failure: StoreError?
  }

  public let byteCount: UInt64
  public let traits: DiskTraits
  let session: ClientSession
  /// What the server says of the disk.
  public var exportDescription: String { session.description }
  /// What `connection` is, or goes over.
  private let socket: StreamSocket
  private let connection: any ByteConnection
  private let state: Mutex<State>
  private let sending = Mutex(())
  private let watch: SilenceWatch?

  /// Makes TLS of a connection whose server has agreed to it; throws when the server isn't trusted.
  public typealias Secure = @Sendable (StreamSocket) throws -> any ByteConnection

  /// Shakes hands and starts to read answers, until `close` or the end of the connection.
  ///
  /// - Parameters:
  ///   - secure: nil: no TLS. Otherwise nothing is said before it.
  ///   - contexts: metadata to ask for beside `base:allocation`; which of it the server has `contexts` says then.
  ///   - silence: nil: a server that is silent is waited for as long as it takes.
  public init(
    over socket: StreamSocket, exportName: String, isReadOnly: Bool, secure: Secure? = nil,
    contexts: [String] = [], silence: SilenceLimit? = nil
  ) throws {
    // Who may be given up shall not get what was sent until then later, also when this process dies.
    if silence != nil { socket.setAbortive(true) }
    self.socket = socket
    let (session, connection, input) = try RemoteHandshake.run(
      socket, exportName, secure, contexts: contexts)
    self.connection = connection
    self.session = session
    byteCount = session.byteCount
    var traits = DiskTraits()
    traits.isReadOnly = isReadOnly || session.flags.contains(.readOnly)
    traits.blockSizes = session.blockSizes
    traits.canTrim = session.flags.contains(.sendTrim)
    traits.isPrompt = false
    self.traits = traits
    state = Mutex(State(replies: ReplyReader(session)))
    watch = silence.map { SilenceWatch($0) }
    let box = SendableInput(input)
    _ = WorkerThread("block-remote") { [self] in while readAnswer(box.input) {} }
    watch?.start {
      socket.abort()
      connection.shutdown()
    }
  }

  /// The buffer moves to the reading thread with its bytes.
  private final class SendableInput: @unchecked Sendable {
    // Unchecked: made here, used by the reading thread alone.
    let input: InputBuffer
    init(_ input: InputBuffer) { self.input = input }
  }

  /// Ends the connection; open and later calls fail. What was sent and isn't answered stays behind, as far as this host
  /// still has it.
  public func close() {
    let (isOver, isOwed) = state.withLock { ($0.failure != nil, !$0.waiters.isEmpty) }
    if isOwed { return abort() }
    if !isOver { socket.setAbortive(false) }
    connection.shutdown()
  }

  private func abort() {
    socket.abort()
    connection.shutdown()
  }
}

// MARK: Answers

extension RemoteStore {
  /// Takes one answer, or more bytes; false when the connection is over, and every caller knows.
  private func readAnswer(_ input: InputBuffer) -> Bool {
    do {
      let event = try state.withLock { state -> ReplyReader.Event? in
        let step = try input.look(min(input.count, ReplyReader.byteCountMax)) {
          bytes throws(DecodeError) in try state.replies.read(bytes)
        }
        if let step { input.drop(step.used) }
        return step?.event
      }
      if let event { return try take(event, input) }
      guard try input.fill() else {
        throw SystemError("read from \(connection.peer) (ended)", code: ECONNRESET)
      }
      watch?.noteHeard()
      return true
    } catch {
      watch?.end()
      let silence = watch?.silence?.description
      fail(StoreError(.inputOutput, silence ?? "the server underneath is gone"))
      return false
    }
  }

  private func take(_ event: ReplyReader.Event, _ input: InputBuffer) throws -> Bool {
    switch event {
    case .data(let cookie, let offset, let count, let last):
      guard let part = unsafe waiter(cookie)?.part(offset, count),
        try unsafe fill(part, from: input)
      else { throw SystemError("data from \(connection.peer)", code: EPROTO) }
      if last { settle(cookie) }
    case .zeros(let cookie, let offset, let count, let last):
      guard let part = unsafe waiter(cookie)?.part(offset, Int(count)) else { return true }
      // SAFETY: the part is within the caller's buffer.
      unsafe part.initializeMemory(as: UInt8.self, repeating: 0)
      if last { settle(cookie) }
    case .status(let cookie, let context, let extents, let last):
      waiter(cookie)?.extents[context] = extents
      if last { settle(cookie) }
    case .failed(let cookie, let code, let message, let last):
      waiter(cookie)?.failure = StoreError(code, message)
      if last { settle(cookie) }
    case .done(let cookie): settle(cookie)
    }
    return true
  }

  /// A long answer over a slow network is no silence.
  private static let pieceByteCount = 64 << 10

  private func fill(
    _ part: UnsafeMutableRawBufferPointer, from input: InputBuffer
  ) throws(SystemError) -> Bool {
    var done = 0
    while done < part.count {
      let end = min(done + Self.pieceByteCount, part.count)
      // SAFETY: the slice is bounds-checked.
      guard try unsafe input.take(into: UnsafeMutableRawBufferPointer(rebasing: part[done..<end]))
      else { return false }
      watch?.noteHeard()
      done = end
    }
    return true
  }

  private func waiter(_ cookie: UInt64) -> Waiter? { state.withLock { $0.waiters[cookie] } }

  private func settle(_ cookie: UInt64) {
    guard let waiter = state.withLock({ $0.waiters.removeValue(forKey: cookie) }) else { return }
    watch?.noteAnswer(waiter.kind)
    waiter.settle()
  }

  private func fail(_ failure: StoreError) {
    let open = state.withLock { state in
      state.failure = failure
      defer { state.waiters = [:] }
      return Array(state.waiters.values)
    }
    if open.isEmpty { connection.shutdown() } else { abort() }
    for waiter in open {
      waiter.failure = failure
      waiter.settle()
    }
  }

  // MARK: Requests

  /// A request that was sent, and whose answer has not been waited for.
  public struct Pending: Sendable {
    fileprivate let waiter: Waiter
  }

  /// Waits for the answer; called once.
  public func finish(_ pending: Pending) throws(StoreError) { _ = try answer(pending) }

  /// Extents by the context's number, where those were asked for.
  private func answer(_ pending: Pending) throws(StoreError) -> [UInt32: [NBDExtent]] {
    while true {
      if let result = pending.waiter.result.wait(until: { $0 }) { return try result.get() }
    }
  }

  /// Sends a write; its bytes aren't used any more when this returns.
  public func startWrite(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64
  ) throws(StoreError) -> Pending {
    unsafe try send(.write, at: offset, count: UInt64(bytes.count), data: bytes)
  }

  /// Asks for a range; the target has to stay until `finish` has returned.
  func startRead(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) -> Pending {
    try unsafe send(.read, at: offset, count: UInt64(target.count), into: target)
  }

  /// Whether the connection is over: every call fails.
  public var isBroken: Bool { state.withLock { $0.failure != nil } }

  /// Why it is over, when that was the server's silence.
  public var silence: ServerSilence? { watch?.silence }

  @discardableResult
  func ask(
    _ command: NBDCommand, _ flags: CommandFlags = [], at offset: UInt64 = 0, count: UInt64 = 0,
    into target: UnsafeMutableRawBufferPointer? = nil
  ) throws(StoreError) -> [UInt32: [NBDExtent]] {
    try answer(unsafe send(command, flags, at: offset, count: count, into: target))
  }

  private func send(
    _ command: NBDCommand, _ flags: CommandFlags = [], at offset: UInt64 = 0, count: UInt64 = 0,
    into target: UnsafeMutableRawBufferPointer? = nil, data: UnsafeRawBufferPointer? = nil
  ) throws(StoreError) -> Pending {
    var request = NBDRequest(command, flags: flags, offset: offset, length: count)
    let kind = SilenceWatch.Kind(command, flags)
    let waiter = unsafe Waiter(target: target, offset: offset, kind)
    let failure = state.withLock { state -> StoreError? in
      if let failure = state.failure { return failure }
      request.cookie = state.nextCookie
      state.nextCookie += 1
      state.waiters[request.cookie] = waiter
      state.replies.expect(request)
      return nil
    }
    if let failure { throw failure }
    watch?.noteSent(kind)
    var header: [UInt8] = []
    request.encode(session.mode, into: &header)
    sending.withLock { _ in
      // SAFETY: header and data live for the call, which only reads them.
      unsafe header.withUnsafeBytes { raw in
        var parts = unsafe [
          iovec(iov_base: UnsafeMutableRawPointer(mutating: raw.baseAddress), iov_len: raw.count),
          iovec(
            iov_base: UnsafeMutableRawPointer(mutating: data?.baseAddress),
            iov_len: data?.count ?? 0),
        ]
        // The reading thread sees the broken connection, too, and settles this request.
        do { try unsafe connection.writeAll(&parts) } catch { connection.shutdown() }
      }
    }
    return Pending(waiter: waiter)
  }

  public func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    var done = 0
    while done < target.count {
      let part = min(target.count - done, requestMax)
      // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
      let room = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done..<(done + part)])
      _ = unsafe try ask(.read, at: offset + UInt64(done), count: UInt64(part), into: room)
      done += part
    }
  }

  /// Bytes of data that one request may carry.
  private var requestMax: Int { max(Int(traits.blockSizes.maximum), 4096) }

  public func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    guard bytes.count <= requestMax else {
      var done = 0
      while done < bytes.count {
        let part = min(bytes.count - done, requestMax)
        // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
        let data = unsafe UnsafeRawBufferPointer(rebasing: bytes[done..<(done + part)])
        try unsafe write(data, at: offset + UInt64(done), durable: false)
        done += part
      }
      return durable ? try flush() : ()
    }
    let hasFUA = session.flags.contains(.sendFUA)
    try finish(
      unsafe send(
        .write, durable && hasFUA ? .fua : [], at: offset, count: UInt64(bytes.count), data: bytes))
    if durable, !hasFUA { try flush() }
  }

  public func flush() throws(StoreError) {
    if session.flags.contains(.sendFlush) { unsafe try ask(.flush) }
  }

  /// Longest range of a request without data, in bytes: what 32 bits hold, in whole blocks.
  static let rangeMax: UInt64 = 1 << 31

  private func eachPart(
    _ offset: UInt64, _ count: UInt64, _ body: (UInt64, UInt64) throws(StoreError) -> Void
  ) throws(StoreError) {
    var done: UInt64 = 0
    while done < count {
      let part = min(count - done, Self.rangeMax)
      try body(offset + done, part)
      done += part
    }
  }

  public func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    guard session.flags.contains(.sendWriteZeroes) else {
      throw StoreError(.notSupported, "the server underneath can't write zeros")
    }
    var flags: CommandFlags = options.contains(.keepsSpace) ? .noHole : []
    if options.contains(.fast) {
      guard session.flags.contains(.sendFastZero) else {
        throw StoreError(.notSupported, "zeros would have to be written")
      }
      flags.insert(.fastZero)
    }
    try eachPart(offset, count) { place, part throws(StoreError) in
      unsafe try ask(.writeZeroes, flags, at: place, count: part)
    }
    if options.contains(.durable) { try flush() }
  }

  public func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    try eachPart(offset, count) { place, part throws(StoreError) in
      unsafe try ask(.trim, at: place, count: part)
    }
  }
}
