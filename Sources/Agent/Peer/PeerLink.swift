import HostIO
import QEMUStream
import Wire

/// The control lane as a session sees it: messages in and out, the rest to the relay.
final class PeerLink: Sendable {
  /// Silence after which a connection counts as broken; heartbeats come every half second.
  static let silenceLimitMs: UInt64 = 5000
  /// The same while the guest is stopped, when waiting is downtime.
  static let stoppedSilenceLimitMs: UInt64 = 2000
  /// Messages that may wait for the session. An honest peer sends many only during an audit.
  static let backlogMax = 16
  static let backlogPollUs: UInt64 = 2000

  enum Inbound: Sendable {
    case message(PeerMessage)
    /// The connection broke and is looked for, or is there again.
    case connection(isUp: Bool)
    /// The lane is over; the reason, or nil after a clean end.
    case ended(RelayFailure?)
  }

  let lane: ControlLane
  /// What takes sequenced frames and acknowledgements; they arrive once a relay runs.
  private let relayHandler = Guarded<
    (@Sendable (FrameType, [UInt8]) throws(RelayFailure) -> Void)?
  >(nil)

  /// Takes the RAM layout, on the lane's thread: batches that wait for it follow at once.
  private let layoutHandler = Guarded<
    (@Sendable ([RAMBlock], UInt32) throws(RelayFailure) -> Void)?
  >(nil)

  /// Takes the source's progress, on the lane's thread: it must not wait behind a session that is busy.
  private let progressHandler = Guarded<(@Sendable (PeerProgress) -> Void)?>(nil)

  init(_ socket: any ByteConnection) {
    lane = ControlLane(socket, silenceLimitMs: Self.silenceLimitMs)
  }

  /// - Parameter backlog: messages handed in and not taken yet. While there are `backlogMax`, the
  ///   peer is not read (I5), and what it sends waits in its own memory.
  func start(
    backlog: @escaping @Sendable () -> Int, onInbound: @escaping @Sendable (Inbound) -> Void
  ) {
    lane.start(
      onFrame: {
        [lane, relayHandler, layoutHandler, progressHandler] (type, payload) throws(RelayFailure) in
        if type == .message {
          let message = try PeerMessage(decoding: payload)
          if case .progress(let progress) = message {
            progressHandler.read { $0 }?(progress)
            return
          }
          guard case .layout(let blocks, let sectionID) = message else {
            while backlog() >= Self.backlogMax {
              guard !lane.isEnding else { throw .stopped }
              MonotonicClock.sleep(us: Self.backlogPollUs)
            }
            return onInbound(.message(message))
          }
          guard let handler = layoutHandler.read({ $0 }) else {
            throw .protocolViolation("RAM layout before the migration began")
          }
          return try handler(blocks, sectionID)
        }
        guard let handler = relayHandler.read({ $0 }) else {
          throw .protocolViolation("\(type) frame before the migration began")
        }
        try handler(type, payload)
      },
      onEnd: { onInbound(.ended($0)) }, onBreak: { onInbound(.connection(isUp: $0)) })
  }

  func setRelay(_ handler: @escaping @Sendable (FrameType, [UInt8]) throws(RelayFailure) -> Void) {
    relayHandler.update { $0 = handler }
  }

  func setLayout(
    _ handler: @escaping @Sendable ([RAMBlock], UInt32) throws(RelayFailure) -> Void
  ) {
    layoutHandler.update { $0 = handler }
  }

  func setProgress(_ handler: @escaping @Sendable (PeerProgress) -> Void) {
    progressHandler.update { $0 = handler }
  }

  /// Queues a message. Control messages are few and small, so this does not block in practice.
  func send(_ message: PeerMessage) throws(RelayFailure) {
    try lane.send(.message, try message.encoded())
  }

  /// Ends the connection after what is queued. Blocks: call it through `Blocking`.
  func close() { lane.close() }
}
