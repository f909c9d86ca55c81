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
  final class Waiter: @unchecked Sendable {
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

  struct State {
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
  let connection: any ByteConnection
  let state: Mutex<State>
  let sending = Mutex(())
  let watch: SilenceWatch?

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
}
