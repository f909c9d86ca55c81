import Synchronization

/// One monitor connection: any number of callers, replies in any order.
///
/// Invariant: each id in `waiting` is answered once: by a reply, an error, a time-out, a
/// cancellation, or the connection's end. A lock instead of an actor, because a reply, a time-out
/// and a cancellation must settle a command where they happen, with no task in between.
public final class QMPClient: Sendable {
  typealias Reply = Result<JSONValue, QMPError>

  /// Commands that may wait for replies; a monitor further behind is stuck.
  public static let waitingCountMax = 64
  /// Events kept per subscriber; a slower one loses the oldest, so state is to be queried.
  public static let eventDepthMax = 256
  public static let subscriberCountMax = 64

  struct Waiter {
    let command: String
    var resume: (@Sendable (Reply) -> Void)?
    var cancelTimer: (@Sendable () -> Void)?
  }

  struct State {
    var waiting: [UInt64: Waiter] = [:]
    var nextID: UInt64 = 1
    var closedDetail: String?
    var greeting: QMPGreeting?
    var outOfBandEnabled = false
    var subscribers: [UInt64: AsyncStream<QMPEvent>.Continuation] = [:]
    var closeWaiters: [UInt64: @Sendable () -> Void] = [:]
  }

  /// The greeting is awaited like a reply, under an id that no command gets.
  private static let greetingID: UInt64 = 0

  private let transport: any QMPTransport
  private let timer: any QMPTimer
  /// Time-out of a command that names none, in milliseconds.
  public let defaultTimeoutMs: UInt64
  let state = Mutex(State())

  /// The owner of the connection feeds `receive` and says `connectionClosed`; nothing is sent
  /// before the first command.
  public init(
    transport: any QMPTransport, timer: any QMPTimer, defaultTimeoutMs: UInt64 = 10_000
  ) {
    (self.transport, self.timer) = (transport, timer)
    self.defaultTimeoutMs = defaultTimeoutMs
  }

  /// nil until the monitor has greeted.
  public var greeting: QMPGreeting? { state.withLock { $0.greeting } }
  /// True from the connection's end on, whoever ended it; every command then throws `disconnected`.
  public var isClosed: Bool { state.withLock { $0.closedDetail != nil } }
  /// Whether `exec-oob` may be used.
  public var outOfBandEnabled: Bool { state.withLock { $0.outOfBandEnabled } }

  /// Waits for the greeting and leaves negotiation mode, with out-of-band execution when offered.
  ///
  /// QEMU serves one connection per monitor: on a monitor that another program holds, the greeting
  /// never comes, and this times out.
  @discardableResult
  public func negotiate(timeoutMs: UInt64) async throws(QMPError) -> QMPGreeting {
    if greeting == nil {
      _ = try await wait(for: Self.greetingID, command: "greeting", line: nil, timeoutMs: timeoutMs)
    }
    guard let greeting else { throw QMPError(.protocolViolation, command: "greeting") }
    let arguments: JSONValue? = greeting.offersOutOfBand ? ["enable": ["oob"]] : nil
    try await execute("qmp_capabilities", arguments, timeoutMs: timeoutMs)
    state.withLock { $0.outOfBandEnabled = greeting.offersOutOfBand }
    return greeting
  }

  /// Sends a command and waits for its reply, `timeoutMs` milliseconds at most.
  ///
  /// Cancelling the task drops the wait; QEMU may still carry the command out. With `outOfBand`
  /// QEMU answers even while its main loop is busy; few commands allow it.
  @discardableResult
  public func execute(
    _ command: String, _ arguments: JSONValue? = nil, timeoutMs: UInt64? = nil,
    outOfBand: Bool = false
  ) async throws(QMPError) -> JSONValue {
    let id = state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    let line = QMPMessage.request(
      id: id, command: command, arguments: arguments, outOfBand: outOfBand)
    return try await wait(
      for: id, command: command, line: line, timeoutMs: timeoutMs ?? defaultTimeoutMs)
  }

  private func wait(
    for id: UInt64, command: String, line: String?, timeoutMs: UInt64
  ) async throws(QMPError) -> JSONValue {
    let reply: Reply = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let waiter = Waiter(command: command, resume: { continuation.resume(returning: $0) })
        if let error = admit(waiter, id: id) {
          return continuation.resume(returning: .failure(error))
        }
        if Task.isCancelled { return settle(id, .failure(QMPError(.cancelled, command: command))) }
        let cancelTimer = timer.schedule(afterMs: timeoutMs) { [weak self] in
          self?.settle(id, .failure(QMPError(.timedOut(afterMs: timeoutMs), command: command)))
        }
        let stillWaiting = state.withLock { state in
          state.waiting[id]?.cancelTimer = cancelTimer
          return state.waiting[id] != nil
        }
        if !stillWaiting { return cancelTimer() }
        if let line, !transport.send(line) {
          settle(id, .failure(QMPError(.disconnected, command: command)))
        }
      }
    } onCancel: {
      settle(id, .failure(QMPError(.cancelled, command: command)))
    }
    return try reply.get()
  }

  /// Registers the waiter; the error says why not.
  private func admit(_ waiter: Waiter, id: UInt64) -> QMPError? {
    state.withLock { state in
      // Also of a monitor that has hung up since: it has greeted, and isn't asked again.
      if id == Self.greetingID, state.greeting != nil {
        waiter.resume?(.success(.null))
        return nil
      }
      if let detail = state.closedDetail {
        return QMPError(.disconnected, command: waiter.command, detail: detail)
      }
      guard state.waiting.count < Self.waitingCountMax, state.waiting[id] == nil else {
        return QMPError(.overloaded, command: waiter.command)
      }
      state.waiting[id] = waiter
      return nil
    }
  }

  private func settle(_ id: UInt64, _ reply: Reply) {
    guard let waiter = state.withLock({ $0.waiting.removeValue(forKey: id) }) else { return }
    waiter.cancelTimer?()
    waiter.resume?(reply)
  }

  // MARK: What the connection's owner calls

  /// Takes one line from the monitor. A line that is not QMP ends the connection.
  public func receive(_ line: [UInt8]) {
    switch Result(catching: { () throws(QMPMessage.Malformed) in try QMPMessage.parse(line) }) {
    case .failure(let malformed): violate(malformed.detail)
    case .success(.event(let event)):
      for subscriber in state.withLock({ Array($0.subscribers.values) }) { subscriber.yield(event) }
    case .success(.greeting(let greeting)):
      let isFirst = state.withLock { state in
        defer { state.greeting = state.greeting ?? greeting }
        return state.greeting == nil
      }
      guard isFirst else { return violate("a second greeting") }
      settle(Self.greetingID, .success(.null))
    case .success(.reply(let id?, let value)):
      settle(id, .success(value))  // nobody waits any more: a late reply after a time-out
    case .success(.failure(let id?, let errorClass, let detail)):
      let command = state.withLock { $0.waiting[id]?.command } ?? ""
      settle(
        id, .failure(QMPError(.refused(errorClass: errorClass), command: command, detail: detail)))
    case .success(.reply(nil, _)): violate("a reply without an id")
    case .success(.failure(nil, _, let detail)): violate("an error without an id: \(detail)")
    }
  }

  private func violate(_ detail: String) {
    finish(detail: detail) { QMPError(.protocolViolation, command: $0, detail: detail) }
    transport.close()
  }

  /// Says that the connection ended; everything that waits fails now. Idempotent.
  public func connectionClosed(detail: String = "") {
    finish(detail: detail) { QMPError(.disconnected, command: $0, detail: detail) }
  }

  /// Ends the connection from this side: what waits fails with `disconnected`, events end.
  /// Idempotent.
  public func close() {
    connectionClosed(detail: "closed by Godwit")
    transport.close()
  }

  private func finish(detail: String, error: (String) -> QMPError) {
    let (waiters, subscribers, closeWaiters) = state.withLock { state in
      if state.closedDetail == nil { state.closedDetail = detail }
      defer {
        state.waiting = [:]
        state.subscribers = [:]
        state.closeWaiters = [:]
      }
      return (
        state.waiting.sorted { $0.key < $1.key }.map(\.value), Array(state.subscribers.values),
        Array(state.closeWaiters.values)
      )
    }
    for waiter in waiters {
      waiter.cancelTimer?()
      waiter.resume?(.failure(error(waiter.command)))
    }
    for subscriber in subscribers { subscriber.finish() }
    for closeWaiter in closeWaiters { closeWaiter() }
  }
}
