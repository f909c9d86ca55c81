import Base
import HostIO
import QEMUStream
import Wire

/// The source's data path: QEMU's socket in, lanes out.
///
/// Owns the thread that reads, the one that picks pages, and one thread a lane. What the session must know arrives by `onEvent`,
/// from those threads.
final class SourceRelay: Sendable {
  enum Event: Sendable {
    case stream(StreamEvent)
    /// The data path broke, or QEMU closed its socket.
    case failed(RelayFailure)
  }

  /// Bytes read from QEMU in one call, at most.
  static let readBufferBytes = 4 << 20

  let queue: SendQueue
  let ledger: SourceLedger
  private let picker: PagePicker
  /// Nil without compaction.
  private let encoders: EncoderPool?
  private let qemu: StreamSocket
  private let control: ControlLane
  private let answers: PageAnswers
  private let lanes: [LaneSender]
  /// Guest memory that is shared, by block name.
  let shared: [String: SharedFile]
  /// Guest memory that pages are read from when they are sent, by block name.
  private let memory: [String: GuestPlace]
  private let held: HeldPages?
  private let mayPull: Bool
  private let layout = Guarded<(blocks: [RAMBlock], sectionID: UInt32)>(([], 0))
  private let reader = Guarded<WorkerThread?>(nil)
  /// Whether QEMU's stream came to its end; nil: it is still read.
  private let isWhole = Guarded<Bool?>(nil)
  private let onEvent: @Sendable (Event) -> Void

  /// - Parameters:
  ///   - memoryLimit: memory for pages that arrived and wait, in bytes.
  ///   - mayPull: the destination may be asked to take the guest before its memory.
  ///   - compaction: how pages are made smaller; nil: they go as they are.
  ///   - readable: guest memory that a page can be read from again, by block name; nil: what is shared.
  ///   - readsAll: pages are read there, too, when they are sent; otherwise only from what is shared, and QEMU's
  ///     stream brings the others.
  ///   - held: what a snapshot at the destination holds; nil: there is none that may be used.
  ///   - recovery: how a lane comes back whose connection broke; nil: it does not.
  init(
    qemu: StreamSocket, control: ControlLane, lanes: [any ByteConnection], queue: SendQueue,
    memoryLimit: UInt64, shared: [String: SharedFile], mayPull: Bool = false,
    compaction: CompactionPlan? = nil, readable: [String: GuestPlace]? = nil,
    readsAll: Bool = false,
    held: HeldPages? = nil,
    recovery: LaneRecovery? = nil,
    onEvent: @escaping @Sendable (Event) -> Void
  ) {
    (self.qemu, self.control, self.queue) = (qemu, control, queue)
    (self.shared, self.mayPull, self.onEvent) = (shared, mayPull, onEvent)
    self.held = held
    ledger = SourceLedger(memoryLimit: memoryLimit)
    let layout = self.layout
    let name: @Sendable (Int) -> String? = { block in
      layout.read { $0.blocks.indices.contains(block) ? $0.blocks[block].name : nil }
    }
    let places = readable ?? shared.mapValues { .shared($0) }
    let direct = readsAll ? places : shared.mapValues { .shared($0) }
    self.memory = direct
    let memory: @Sendable (Int) -> GuestPlace? = { block in name(block).flatMap { direct[$0] } }
    encoders = compaction.map {
      EncoderPool(
        $0, queue: queue, held: held, blocks: { layout.read { $0.blocks } }, memory: memory)
    }
    answers = PageAnswers(control: control, pagesMax: queue.pagesMax) { block in
      name(block).flatMap { places[$0] }
    } onFailure: {
      onEvent(.failed($0))
    }
    picker = PagePicker(
      ledger: ledger, queue: queue, control: control, encoders: encoders)
    self.lanes = lanes.enumerated().map { index, socket in
      LaneSender(
        socket, number: UInt16(index + 1), queue: queue, recovery: recovery,
        counting: control.bytesWritten, memory: memory)
    }
  }

  func start() {
    for lane in lanes { lane.start { [onEvent] in onEvent(.failed($0)) } }
    encoders?.start { [onEvent] in onEvent(.failed($0)) }
    picker.start { [onEvent] in onEvent(.failed($0)) }
    let worker = WorkerThread("gw-qemu-rx") { [self] in
      do throws(RelayFailure) { try readLoop() } catch {
        isWhole.update { $0 = $0 ?? false }
        onEvent(.failed(error))
      }
    }
    reader.update { $0 = worker }
  }

  /// Stops all threads and waits for them, QEMU's migration socket closed first: before SHUT 0 that
  /// gives the guest back to the source's QEMU, which must not wait for a network.
  func stop() {
    queue.fail(.stopped)
    ledger.fail(.stopped)
    control.stopStream()
    encoders?.shutdown()
    answers.shutdown()
    qemu.shutdown()
    for lane in lanes { lane.shutdown() }
    reader.update { $0 }?.join()
    picker.join()
    encoders?.join()
    answers.join()
    for lane in lanes { lane.join() }
  }

  /// Reads all that a QEMU wrote which is no more. Blocks.
  ///
  /// - Returns: whether its stream is whole; false also when it isn't read within `timeoutMs`, in milliseconds.
  func readToEnd(timeoutMs: UInt64) -> Bool {
    // Nobody is to be slowed down any more.
    ledger.setGate(.open)
    return isWhole.wait(timeoutMs: timeoutMs) { $0 } ?? false
  }

  /// A frame from the destination that is for the data path.
  func arrived(_ type: FrameType, _ payload: [UInt8]) throws(RelayFailure) {
    do {
      var cursor = unsafe ByteCursor(payload.span.bytes)
      switch type {
      case .acknowledge:
        let through = try Acknowledgement(decoding: &cursor).appliedThrough
        try queue.acknowledged(through: through)
        encoders?.noteApplied(through: through)
      case .snapshotFilters where held != nil: try held?.arrived(payload)
      case .pageRequest where encoders != nil:
        let request = try PageRequestFrame(decoding: &cursor)
        encoders?.noteRefetched(request)
        try answers.asked(request)
      default: throw RelayFailure.protocolViolation("\(type) frame from a destination")
      }
    } catch let failure as RelayFailure {
      throw failure
    } catch {
      throw .protocolViolation("\(error)")
    }
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

  /// Bytes written to all lanes, the control lane included.
  var wireBytes: UInt64 { control.bytesWritten.read { $0 } }

  /// Where every connection of this migration counts what it writes.
  var bytesWritten: Guarded<UInt64> { control.bytesWritten }

  /// The stream's RAM blocks, in its order, once it named them.
  var blocks: [RAMBlock] { layout.read { $0.blocks } }

  /// Of its RAM sections.
  var sectionID: UInt32 { layout.read { $0.sectionID } }

  /// Whether no page is read out of QEMU's process, with which it would be lost.
  var memoryOutlivesQEMU: Bool {
    memory.values.allSatisfy { if case .process = $0 { false } else { true } }
  }

  /// Milliseconds that threads spent on making pages smaller; nil without compaction.
  var encodeMs: UInt64? { encoders.map { $0.busyUs / 1000 } }

  /// Whether pages may go as held by a snapshot at the destination.
  var mayBeHeld: Bool { held != nil }

  /// Whether pages may be the same as stored ones at other places, or in other snapshots.
  var mayBeElsewhere: Bool { held?.elsewhere != nil }

  /// Whether pages may refer to those of other guests.
  var isInGang: Bool { encoders?.isInGang == true }

  /// Pages that the destination could not make of what it has, and asked for; nil without compaction.
  var refetchedPages: UInt64? { encoders == nil ? nil : answers.pages }

  private func readLoop() throws(RelayFailure) {
    let buffer = PageBuffer(byteCount: Self.readBufferBytes + StreamReader.carryMax)
    var stream = StreamReader()
    var visitor = StreamToLedger(
      ledger: ledger, control: control, memory: memory, mayPull: mayPull
    ) { [self] event in
      if case .layout(let blocks, let sectionID) = event {
        layout.update { $0 = (blocks, sectionID) }
      }
      if case .ended = event { isWhole.update { $0 = true } }
      onEvent(.stream(event))
    }
    var filled = 0
    while true {
      ledger.waitForGate()
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
