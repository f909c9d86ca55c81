import Base
import HostIO
import Wire

/// The ordered lane between two agents: messages, QEMU's non-RAM bytes, acknowledgements, heartbeats.
///
/// One thread writes what is queued, one reads. The reader hands everything to `onFrame`; the
/// receiver decides what may block it. A lane that hears nothing for `silenceLimitMs` is broken.
final class ControlLane: Sendable {
  /// Bytes queued and unwritten, beyond which `send` blocks its caller.
  static let queueBytesMax = 16 << 20
  /// A message up to this many bytes never waits: "give up" must get out of a full lane's way.
  static let urgentBytesMax = 64 << 10
  static let heartbeatMs: UInt64 = 1000

  private struct Outbox {
    var frames: [(type: FrameType, payload: [UInt8])] = []
    var bytes = 0
    /// Latest acknowledgement, which replaces an unsent older one.
    var acknowledge: UInt64?
    var failure: RelayFailure?
    /// Finish after what is queued.
    var closing = false
    /// Only messages are taken any more.
    var streamStopped = false
  }

  let frames: FrameSocket
  private let outbox = Guarded(Outbox())
  private let threads = Guarded<[WorkerThread]>([])

  /// - Parameter silenceLimitMs: longest silence of the peer before the lane counts as broken.
  init(_ frames: FrameSocket, silenceLimitMs: UInt64) {
    self.frames = frames
    frames.socket.setTimeout(ms: silenceLimitMs)
  }

  /// Starts both threads. `onEnd` is called once, when the reader stops: nil after a clean end.
  func start(
    onFrame: @escaping @Sendable (FrameType, [UInt8]) throws(RelayFailure) -> Void,
    onEnd: @escaping @Sendable (RelayFailure?) -> Void
  ) {
    let writer = WorkerThread("gw-control-tx") { [self] in writeLoop() }
    let reader = WorkerThread("gw-control-rx") { [self] in
      var failure: RelayFailure?
      do throws(RelayFailure) {
        while let header = try frames.receiveHeader() {
          let payload = try frames.receivePayload(header.payloadLength)
          if header.type != .heartbeat { try onFrame(header.type, payload) }
        }
      } catch {
        failure = error
      }
      fail(failure ?? .peer("closed by \(frames.socket.peer)"))
      onEnd(failure)
    }
    threads.update { $0 = [writer, reader] }
  }

  /// Queues a frame behind all queued before. Blocks while the queue is full, but for a small
  /// message, whose sender (a session that rolls back) must not depend on the peer.
  func send(_ type: FrameType, _ payload: [UInt8]) throws(RelayFailure) {
    let failure = outbox.wait { box -> RelayFailure?? in
      if let failure = box.failure { return .some(failure) }
      if box.streamStopped, type != .message { return .some(.stopped) }
      let isUrgent = type == .message && payload.count <= Self.urgentBytesMax
      guard isUrgent || box.bytes == 0 || box.bytes + payload.count <= Self.queueBytesMax else {
        return nil
      }
      box.frames.append((type, payload))
      box.bytes += payload.count
      return .some(nil)
    }
    if let failure = failure ?? nil { throw failure }
  }

  /// Takes no more bytes of QEMU's stream; whoever waits to send some is told `stopped`.
  func stopStream() { outbox.update { $0.streamStopped = true } }

  /// Notes how far this side has applied; sent soon, older ones are skipped.
  func acknowledge(_ appliedThrough: UInt64) {
    outbox.update { $0.acknowledge = max($0.acknowledge ?? 0, appliedThrough) }
  }

  /// Writes what is queued, then ends the connection. Blocks until both threads are done.
  func close() {
    outbox.update { $0.closing = true }
    let running = threads.update { threads in
      defer { threads = [] }
      return threads
    }
    running.first?.join()
    frames.socket.finish()
    running.last?.join()
  }

  /// Whether nothing more will be sent: closing, or broken.
  var isEnding: Bool { outbox.read { $0.closing || $0.failure != nil } }

  /// Breaks the lane at once, from any thread.
  func fail(_ failure: RelayFailure) {
    outbox.update { $0.failure = $0.failure ?? failure }
    frames.socket.shutdown()
  }

  private func writeLoop() {
    while true {
      let next = outbox.wait(timeoutMs: Self.heartbeatMs) { box -> (FrameType, [UInt8])?? in
        if box.failure != nil { return .some(nil) }
        if let through = box.acknowledge {
          box.acknowledge = nil
          var payload: [UInt8] = []
          Acknowledgement(appliedThrough: through).encode(into: &payload)
          return (.acknowledge, payload)
        }
        if !box.frames.isEmpty {
          let frame = box.frames.removeFirst()
          box.bytes -= frame.payload.count
          return frame
        }
        return box.closing ? .some(nil) : nil
      }
      guard let frame = next ?? (FrameType.heartbeat, []) else { return }
      do throws(RelayFailure) { try unsafe frames.send(frame.0, frame.1) } catch {
        return fail(error)
      }
    }
  }
}
