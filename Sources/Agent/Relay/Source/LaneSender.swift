import Base
import HostIO
import Wire

/// One data lane at the source: takes batches and writes them, on a thread of its own.
///
/// It survives its connections: batches are kept until they are applied at the destination, and
/// written again when the connection they went by broke; the destination drops what it has already.
final class LaneSender: Sendable {
  private struct State {
    var frames: FrameSocket
    /// The connection is of no use any more.
    var isBroken = false
    var breaks = 0
  }

  private let number: UInt16
  private let queue: SendQueue
  private let bytesWritten: Guarded<UInt64>
  private let state: Guarded<State>
  /// Guest memory by block number, for batches that carry no bytes.
  private let memory: @Sendable (Int) -> GuestPlace?
  private let recovery: LaneRecovery?
  private let scratch = PageBuffer(byteCount: BatchLimits.rawPagesMax * Page.size)
  private let thread = Guarded<WorkerThread?>(nil)

  init(
    _ socket: any ByteConnection, number: UInt16, queue: SendQueue, recovery: LaneRecovery?,
    counting bytesWritten: Guarded<UInt64>, memory: @escaping @Sendable (Int) -> GuestPlace?
  ) {
    (self.number, self.queue, self.recovery) = (number, queue, recovery)
    (self.bytesWritten, self.memory) = (bytesWritten, memory)
    state = Guarded(State(frames: FrameSocket(socket, counting: bytesWritten)))
  }

  /// Starts the thread. `onFailure` is called when guest memory can't be read: nobody else may notice, with the last
  /// pages. Everything else whoever uses the queue hears from it, or the session from the control lane.
  func start(onFailure: @escaping @Sendable (RelayFailure) -> Void) {
    let worker = WorkerThread("gw-lane-tx-\(number)") { [self] in
      do throws(RelayFailure) { try sendAll() } catch {
        queue.fail(error)
        if case .memory = error { onFailure(error) }
      }
    }
    thread.update { $0 = worker }
    watch(state.read { $0.frames })
  }

  /// Wakes the thread, which ends when the queue was failed.
  func shutdown() { state.read { $0.frames }.socket.shutdown() }

  func join() { thread.update { $0 }?.join() }

  /// Connections of this lane that broke.
  var breaks: Int { state.read { $0.breaks } }

  /// Drops a connection that may be dead without saying so, if anything depends on it.
  func renew() {
    guard queue.owes(lane: number) else { return }
    shutdown()
  }

  private func sendAll() throws(RelayFailure) {
    while true {
      switch try queue.take(lane: number, isInterrupted: { state.read { $0.isBroken } }) {
      case .batch(let batch, let delayUs):
        queue.pause(us: delayUs)
        do throws(RelayFailure) { try send(batch) } catch {
          guard case .peer(let text) = error else { throw error }
          try reconnect(text)
        }
      case .interrupted: try reconnect("closed by the peer")
      }
    }
  }

  /// The destination says nothing on a data lane: whatever ends the wait for it ends the connection.
  private func watch(_ frames: FrameSocket) {
    _ = WorkerThread("gw-lane-watch") { [self] in
      let byte = PageBuffer(byteCount: 1)
      _ = unsafe try? frames.socket.read(into: byte.part(0, 1))
      state.update { if $0.frames === frames { $0.isBroken = true } }
      queue.wake()
    }
  }

  /// Opens the lane again and writes what may have been lost.
  private func reconnect(_ reason: String) throws(RelayFailure) {
    var failure = RelayFailure.peer("lane \(number): \(reason)")
    if let stopped = queue.failure { throw stopped }
    guard let recovery else { throw failure }
    while true {
      state.read { $0.frames }.socket.shutdown()
      state.update { $0.breaks += 1 }
      let socket = try recovery.restore(
        .data, lane: number, after: failure, isOver: { queue.failure != nil },
        pause: { queue.pause(ms: $0) })
      guard let socket else { throw queue.failure ?? .stopped }
      let frames = FrameSocket(socket, counting: bytesWritten)
      state.update { state in
        state.frames = frames
        state.isBroken = false
      }
      watch(frames)
      do throws(RelayFailure) {
        for batch in queue.unconfirmed(lane: number) { try send(batch) }
        return
      } catch {
        guard case .peer = error else { throw error }
        failure = error
      }
    }
  }

  private func send(_ batch: PageBatch) throws(RelayFailure) {
    var head: [UInt8] = []
    let frames = state.read { $0.frames }
    if let encoded = batch.encoded {
      head.reserveCapacity(encoded.header.byteCount + encoded.lead.count)
      encoded.header.encode(into: &head)
      head += encoded.lead
      try unsafe frames.send(
        .encodedPages, head, body: batch.buffer?.part(0, batch.bodyByteCount))
      return
    }
    head.reserveCapacity(batch.header.byteCount)
    batch.header.encode(into: &head)
    let buffer = batch.buffer ?? scratch
    if batch.buffer == nil, batch.bodyByteCount > 0 {
      try scratch.readPages(of: batch.header, memory: memory)
    }
    try unsafe frames.send(.pages, head, body: buffer.part(0, batch.bodyByteCount))
  }
}
