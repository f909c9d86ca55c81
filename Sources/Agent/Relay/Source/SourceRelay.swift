import Base
import HostIO
import QEMUStream
import Wire

/// The source's data path: QEMU's socket in, lanes out.
///
/// Owns one reader thread and one thread a lane. What the session must know arrives by `onEvent`,
/// from those threads.
final class SourceRelay: Sendable {
  enum Event: Sendable {
    case stream(StreamToBatches.Event)
    /// The data path broke, or QEMU closed its socket.
    case failed(RelayFailure)
  }

  /// Bytes read from QEMU in one call, at most.
  static let readBufferBytes = 4 << 20

  let queue: SendQueue
  private let qemu: StreamSocket
  private let control: ControlLane
  private let lanes: [LaneSender]
  private let shared: [String: SharedFile]
  private let layout = Guarded<[RAMBlock]>([])
  /// While closed, nothing is read and QEMU's socket fills up: the hold of the switchover.
  private let gateIsOpen = Guarded(true)
  private let reader = Guarded<WorkerThread?>(nil)
  private let onEvent: @Sendable (Event) -> Void

  /// - Parameter recovery: how a lane comes back whose connection broke; nil: it does not.
  init(
    qemu: StreamSocket, control: ControlLane, lanes: [any ByteConnection], queue: SendQueue,
    shared: [String: SharedFile], recovery: LaneRecovery? = nil,
    onEvent: @escaping @Sendable (Event) -> Void
  ) {
    (self.qemu, self.control, self.queue) = (qemu, control, queue)
    (self.shared, self.onEvent) = (shared, onEvent)
    let layout = self.layout
    self.lanes = lanes.enumerated().map { index, socket in
      LaneSender(
        socket, number: UInt16(index + 1), queue: queue, recovery: recovery,
        counting: control.bytesWritten
      ) { block in
        layout.read { $0.indices.contains(block) ? $0[block].name : nil }.flatMap { shared[$0] }
      }
    }
  }

  func start() {
    for lane in lanes { lane.start() }
    let worker = WorkerThread("gw-qemu-rx") { [self] in
      do throws(RelayFailure) { try readLoop() } catch { onEvent(.failed(error)) }
    }
    reader.update { $0 = worker }
  }

  /// Opens or closes the gate between QEMU and the lanes.
  func setGate(open: Bool) { gateIsOpen.update { $0 = open } }

  /// Stops all threads and waits for them, QEMU's migration socket closed first: before SHUT 0 that
  /// gives the guest back to the source's QEMU, which must not wait for a network.
  func stop() {
    queue.fail(.stopped)
    control.stopStream()
    gateIsOpen.update { $0 = true }
    qemu.shutdown()
    for lane in lanes { lane.shutdown() }
    reader.update { $0 }?.join()
    for lane in lanes { lane.join() }
  }

  /// The connection between the agents is there again: lanes that died with it and cannot know get
  /// new ones.
  func renewLanes() { for lane in lanes { lane.renew() } }

  /// Connections of data lanes that broke so far.
  var breaks: Int { lanes.reduce(0) { $0 + $1.breaks } }

  /// Answers on QEMU's return path.
  func answer(_ message: ReturnPathMessage) throws(SystemError) {
    var bytes: [UInt8] = []
    message.encode(into: &bytes)
    try unsafe qemu.writeAll(bytes.span.bytes)
  }

  /// The stream's RAM blocks, once it named them.
  var blockNames: [String] { layout.read { $0.map(\.name) } }

  /// Bytes written to all lanes, the control lane included.
  var wireBytes: UInt64 { control.bytesWritten.read { $0 } }

  private func readLoop() throws(RelayFailure) {
    let buffer = PageBuffer(byteCount: Self.readBufferBytes + StreamReader.carryMax)
    var stream = StreamReader()
    var visitor = StreamToBatches(queue: queue, control: control, shared: shared) { [self] event in
      if case .layout(let blocks, _) = event { layout.update { $0 = blocks } }
      onEvent(.stream(event))
    }
    var filled = 0
    while true {
      _ = gateIsOpen.wait { $0 ? true : nil }
      let room = buffer.byteCount - filled
      let count: Int
      do { count = try unsafe qemu.read(into: buffer.part(filled, room)) } catch {
        throw .qemu("\(error)")
      }
      guard count > 0 else {
        do { try stream.finish(&visitor) } catch {
          throw visitor.failure ?? .qemu("closed early: \(error)")
        }
        throw .qemu("closed by QEMU")
      }
      filled += count
      let used: Int
      do { used = try stream.consume(buffer.span(filled), &visitor) } catch {
        throw visitor.failure ?? .qemu("\(error)")
      }
      filled -= used
      if filled > 0, used > 0 { buffer.moveToFront(from: used, count: filled) }
    }
  }
}
