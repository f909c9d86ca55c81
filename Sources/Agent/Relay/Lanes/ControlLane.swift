import Base
import HostIO
import Wire

/// The ordered lane between two agents: messages, QEMU's non-RAM bytes, acknowledgements, heartbeats.
///
/// It survives its connections: numbered frames are kept until the peer has them, and after a break
/// both sides go on behind what the other has received. One thread writes what is queued, one per
/// connection reads and hands everything to `onFrame`. A connection that hears nothing for the silence
/// limit counts as broken, as does one that changed bytes.
final class ControlLane: Sendable {
  /// Bytes queued or not yet received by the peer, beyond which `send` blocks its caller.
  static let queueBytesMax = 16 << 20
  /// A message up to this many bytes never waits: "give up" must get out of a full lane's way.
  static let urgentBytesMax = 64 << 10
  static let heartbeatMs: UInt64 = 500
  /// The peer is told at least this often (frames, bytes) what it need not keep any longer.
  static let reportFrames = 64
  static let reportBytes = 1 << 20
  /// Connections that may break by changed bytes before the network counts as unusable.
  static let corruptMax = 32

  struct State {
    var outbox = NumberedOutbox()
    var inbox = NumberedInbox()
    var unreported = (frames: 0, bytes: 0)
    /// A heartbeat is due now.
    var reportIsDue = false
    /// How far this side has applied: the latest, and whether the peer must still be told.
    var applied: (through: UInt64, isDue: Bool) = (0, false)
    /// The present connection; nil while it is broken.
    var connection: FrameSocket?
    /// Counts connections, so that the end of an old one changes nothing.
    var epoch = 0
    /// Whether the peer said what it has received, so that numbered frames may follow.
    var peerIsKnown = true
    var recovery: LaneRecovery?
    var silenceLimitMs: UInt64
    var breaks = 0
    var corruptions = 0
    var failure: RelayFailure?
    /// Finish after what is queued.
    var closing = false
    /// Only messages are taken any more.
    var streamStopped = false
    var hasEnded = false
  }

  /// The host at the other end, for messages.
  let peer: String
  /// Bytes written on all connections, headers included.
  let bytesWritten: Guarded<UInt64>
  let state: Guarded<State>
  private let writer = Guarded<WorkerThread?>(nil)
  /// Of the present connection, or of the one that broke last.
  let reader = Guarded<WorkerThread?>(nil)
  private let handlers = Guarded<Handlers?>(nil)

  struct Handlers: Sendable {
    let onFrame: @Sendable (FrameType, [UInt8]) throws(RelayFailure) -> Void
    /// Called once: nil after a clean end.
    let onEnd: @Sendable (RelayFailure?) -> Void
    /// The connection broke, or is there again.
    let onBreak: @Sendable (_ isConnected: Bool) -> Void
  }

  /// - Parameter silenceLimitMs: longest silence of the peer before the connection counts as broken.
  init(_ socket: any ByteConnection, silenceLimitMs: UInt64) {
    peer = socket.peer
    bytesWritten = Guarded(0)
    var state = State(silenceLimitMs: silenceLimitMs)
    state.connection = FrameSocket(socket, counting: bytesWritten)
    self.state = Guarded(state)
    socket.setTimeout(ms: silenceLimitMs)
  }

  /// Starts the threads.
  func start(
    onFrame: @escaping @Sendable (FrameType, [UInt8]) throws(RelayFailure) -> Void,
    onEnd: @escaping @Sendable (RelayFailure?) -> Void,
    onBreak: @escaping @Sendable (_ isConnected: Bool) -> Void = { _ in }
  ) {
    handlers.update { $0 = Handlers(onFrame: onFrame, onEnd: onEnd, onBreak: onBreak) }
    let worker = WorkerThread("gw-control-tx") { [self] in writeLoop() }
    writer.update { $0 = worker }
    if let connection = state.read({ $0.connection }) { startReader(connection, epoch: 0) }
  }

  /// From now on a broken connection is not the end: both sides know how to find each other again.
  func setRecovery(_ recovery: LaneRecovery) { state.update { $0.recovery = recovery } }

  /// Changes how long the peer may be silent, for this connection and those after it.
  func setSilenceLimit(ms: UInt64) {
    let connection = state.update { state in
      state.silenceLimitMs = ms
      return state.connection
    }
    connection?.socket.setTimeout(ms: ms)
  }

  /// Queues a frame behind all queued before. Blocks while the queue is full, but for a small
  /// message, whose sender (a session that rolls back) must not depend on the peer.
  func send(_ type: FrameType, _ payload: [UInt8]) throws(RelayFailure) {
    let failure = state.wait { state -> RelayFailure?? in
      if let failure = state.failure { return .some(failure) }
      if state.streamStopped, type != .message { return .some(.stopped) }
      // A lane that ends is read by nobody who would make room.
      if type == .snapshotFilters, state.hasEnded || state.closing { return .some(.stopped) }
      // Page requests come from the reading thread, too, which must not wait for what only it can read. They are
      // small, and an honest peer's are bounded by the window.
      let isUrgent =
        type == .pageRequest || type == .message && payload.count <= Self.urgentBytesMax
      let bytes = state.outbox.byteCount
      guard isUrgent || bytes == 0 || bytes + payload.count <= Self.queueBytesMax else {
        return nil
      }
      state.outbox.append(type, payload)
      return .some(nil)
    }
    if let failure = failure ?? nil { throw failure }
  }

  /// Takes no more bytes of QEMU's stream; whoever waits to send some is told `stopped`.
  func stopStream() { state.update { $0.streamStopped = true } }

  /// Notes how far this side has applied; sent soon, older ones are skipped.
  func acknowledge(_ appliedThrough: UInt64) {
    state.update { $0.applied = (max($0.applied.through, appliedThrough), true) }
  }

  /// Writes what is queued, then ends the connection. Blocks until the threads are done.
  func close() {
    state.update { $0.closing = true }
    writer.update { writer in
      defer { writer = nil }
      return writer
    }?.join()
    state.read { $0.connection }?.socket.finish()
    finish(nil)
  }

  /// Whether nothing more will be sent: closing, or broken for good.
  var isEnding: Bool { state.read { $0.closing || $0.failure != nil } }

  /// Whether there is a connection, and how often one broke so far.
  var condition: (isConnected: Bool, breaks: Int) {
    state.read { ($0.connection != nil, $0.breaks) }
  }

  /// Ends the lane at once, from any thread.
  func fail(_ failure: RelayFailure) {
    let connection = state.update { state in
      state.failure = state.failure ?? failure
      return state.connection
    }
    connection?.socket.shutdown()
    finish(failure)
  }

  /// Tells the session, once, that the lane is over.
  func finish(_ failure: RelayFailure?) {
    let isFirst = state.update { state in
      defer { state.hasEnded = true }
      return !state.hasEnded
    }
    guard isFirst else { return }
    // They hold what the lane is for, and the lane itself: kept, a migration's memory would never be let go of.
    let last = handlers.update { handlers -> Handlers? in
      defer { handlers = nil }
      return handlers
    }
    last?.onEnd(failure)
  }

  /// What the threads hand over to.
  var calls: Handlers? { handlers.read { $0 } }
}
