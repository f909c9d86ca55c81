import Base
import HostIO
import QEMUStream
import Wire

/// The destination's data path: lanes in, QEMU's stream and guest memory out.
final class DestinationRelay: Sendable {
  enum Event: Sendable {
    /// The last byte of the stream is with QEMU.
    case streamFed
    /// What a pull says; `pull` of the relay has its figures.
    case pull(PullFeeder.Event)
    /// The connections of a pull broke, or are there again.
    case pullConnection(isUp: Bool)
    case failed(RelayFailure)
  }

  struct Layout {
    var blocks: [RAMBlock] = []
    var sectionID: UInt32 = 0
    var inPlace: [SharedFile?] = []
  }

  let control: ControlLane
  private let qemu: StreamSocket
  let feeder: StreamFeeder
  let unpacking = PageUnpacking()
  let referenced: ReferencedPages
  let fetches = StreamFetches()
  /// That pages may be taken from; nil: none was agreed on.
  let snapshot: HeldSnapshot?
  /// Whose stored pages may be referred to, wherever they lay; nil: none were agreed on.
  let vault: HeldVault?
  let layout = Guarded<Layout?>(nil)
  /// Whose blocks pages may refer to; nil: none were offered.
  let images: HeldImages?
  /// Whose guests' pages may be referred to; nil: the guest goes alone.
  let gang: HeldGang?
  private let shared: [String: SharedFile]
  /// By number; nil once the relay was stopped: a lane that comes late must not outlive it.
  private let lanes = Guarded<[UInt16: LaneReceiver]?>([:])
  private let entrance: PullEntrance
  /// Where the source's connections of a pull come in; nil when none was agreed on.
  let port: PullPort?
  private let corruptions = Guarded(0)
  private let onEvent: @Sendable (Event) -> Void
  /// Set once in `init`; needs `self`'s parts, so it cannot be a `let` of a class with closures.
  private let pipeBox = Guarded<ApplyPipe?>(nil)

  /// - Parameter mayPull: the guest may be handed over before its memory is complete. QEMU has the
  ///   capabilities for it, and `shared` is empty: nothing may be written in place then.
  /// - Parameter identifies: the source says of pages that are pulled whether they may be made here; `identifiesStored`:
  ///   of stored pages that lay elsewhere, too.
  init(
    qemu: StreamSocket, control: ControlLane, shared: [String: SharedFile], windowBytes: UInt64,
    memoryLimit: UInt64 = .max, mayPull: Bool = false, identifies: Bool = false,
    identifiesStored: Bool = false,
    audits: Bool = false,
    snapshot: HeldSnapshot? = nil, vault: HeldVault? = nil, images: HeldImages? = nil,
    gang: HeldGang? = nil,
    onEvent: @escaping @Sendable (Event) -> Void
  ) {
    (self.qemu, self.control, self.shared, self.onEvent) = (qemu, control, shared, onEvent)
    (self.snapshot, self.vault, self.images, self.gang) = (snapshot, vault, images, gang)
    referenced = ReferencedPages(windowBytes: windowBytes)
    let entrance = PullEntrance(
      isAllowed: mayPull && shared.isEmpty, audits: audits, memoryLimit: memoryLimit)
    let port = PullPort(
      onEvent: { onEvent(.pullConnection(isUp: $0)) }, onFailure: { onEvent(.failed($0)) })
    self.entrance = entrance
    self.port = mayPull ? port : nil
    let layout = self.layout
    feeder = StreamFeeder(
      qemu: qemu,
      unpacking: FeederUnpacking(
        unpacking: unpacking, snapshot: snapshot, vault: vault, images: images, gang: gang,
        fetches: fetches, control: control,
        blockName: { block in DestinationRelay.blockName(block, layout) }),
      layout: { layout.read { $0.map { ($0.blocks, $0.sectionID) } } },
      isInPlace: { block in layout.read { $0?.inPlace[block] != nil } },
      handOver: { () throws(RelayFailure) in
        guard let layout = layout.read({ $0 }) else {
          throw .protocolViolation("device state before the RAM layout")
        }
        try entrance.begin(
          qemu: qemu, blocks: layout.blocks, sectionID: layout.sectionID, port: port,
          local: identifies
            ? LocalPages(
              snapshot: snapshot, images: images, vault: identifiesStored ? vault : nil,
              blocks: layout.blocks) : nil,
          onEvent: { event in
            if case .complete(let done) = event { port.finished(done) }
            if case .failed(let failure) = event { return onEvent(.failed(failure)) }
            onEvent(.pull(event))
          })
      })
    let pipe = ApplyPipe(
      bytesMax: Int(clamping: windowBytes) * 2 + ControlLane.queueBytesMax,
      apply: { [weak self] (sequence, frame) throws(RelayFailure) in
        try self?.apply(sequence, frame) ?? true
      },
      onAdvance: { control.acknowledge($0) })
    pipeBox.update { $0 = pipe }
  }

  func start() {
    feeder.start(
      onApplied: { [self] (sequence, frame) throws(RelayFailure) in
        try pipeBox.read { $0 }?.finished(sequence)
        if case .tail = frame { onEvent(.streamFed) }
      },
      onFailure: { [onEvent] in onEvent(.failed($0)) })
  }

  /// Takes a lane in, in place of the connection that it had before.
  func addLane(_ socket: any ByteConnection, number: UInt16) {
    guard let pipe = pipeBox.read({ $0 }) else { return }
    let lane = LaneReceiver(FrameSocket(socket), pipe: pipe)
    let (isTaken, previous) = lanes.update { lanes -> (Bool, LaneReceiver?) in
      guard lanes != nil else { return (false, nil) }
      return (true, lanes?.updateValue(lane, forKey: number))
    }
    guard isTaken else { return socket.shutdown() }
    lane.start(lane: number, after: previous) { [self] failure in laneEnded(failure) }
  }

  /// A connection that broke is opened again by the source; anything else is the end.
  private func laneEnded(_ failure: RelayFailure?) {
    switch failure {
    case nil, .peer: return
    case .corrupt:
      let count = corruptions.update { count in
        count += 1
        return count
      }
      guard count > ControlLane.corruptMax else { return }
    default: break
    }
    if let failure { onEvent(.failed(failure)) }
  }

  /// The stream's RAM blocks, as the source read them. Said once: pages that were checked against
  /// one layout must not be written by another.
  func setLayout(_ blocks: [RAMBlock], sectionID: UInt32) throws(RelayFailure) {
    try layout.update { (layout) throws(RelayFailure) in
      guard layout == nil else { throw .protocolViolation("a second RAM layout") }
      layout = Layout(
        blocks: blocks, sectionID: sectionID, inPlace: blocks.map { shared[$0.name] })
    }
  }

  /// A frame from the control lane: sequenced, or pages that were asked for.
  func arrived(_ type: FrameType, _ payload: [UInt8]) throws(RelayFailure) {
    if type == .pageAnswer {
      guard let sequence = try completed(by: payload) else { return }
      try pipeBox.read { $0 }?.finished(sequence)
      return
    }
    let place: SequencedHeader
    let frame: IncomingFrame
    do {
      var cursor = unsafe ByteCursor(payload.span.bytes)
      place = try SequencedHeader(decoding: &cursor)
      let body = Array(payload.dropFirst(SequencedHeader.byteCount))
      var whole = unsafe ByteCursor(payload.span.bytes)
      switch type {
      case .verbatim: frame = .verbatim(body)
      case .ramEnd: frame = .ramEnd
      case .tail: frame = .tail(body)
      case .invalidPages: frame = .invalidPages(try InvalidPages(decoding: &whole))
      case .deviceState: frame = .deviceState(try DeviceStatePart(decoding: &whole))
      default: throw RelayFailure.protocolViolation("\(type) frame is not sequenced")
      }
    } catch let failure as RelayFailure {
      throw failure
    } catch {
      throw .protocolViolation("\(error)")
    }
    try pipeBox.read { $0 }?.arrived(place, frame)
  }

  func stop() {
    let running = lanes.update { lanes in
      defer { lanes = nil }
      return lanes
    }
    fetches.stop()
    feeder.stop()
    port?.stop()
    entrance.feeder?.stop()
    let ending = Array((running ?? [:]).values)
    for lane in ending { lane.shutdown() }
    let deadlineMs = MonotonicClock.nowMs + StreamFeeder.endMs
    for lane in ending { lane.join(timeoutMs: deadlineMs - min(MonotonicClock.nowMs, deadlineMs)) }
  }

  /// Thrown to a thread that comes back to a relay which was stopped meanwhile: it must write nothing any more.
  func checkRuns() throws(RelayFailure) {
    if lanes.read({ $0 == nil }) { throw .stopped }
  }

  static func blockName(_ block: Int, _ layout: Guarded<Layout?>) -> String? {
    layout.read { layout in
      guard let blocks = layout?.blocks, blocks.indices.contains(block) else { return nil }
      return blocks[block].name
    }
  }

  /// The pull, once QEMU has been handed the guest.
  var pull: PullFeeder? { entrance.feeder }

  /// Applies a frame, or passes it to the feeder's thread; true when it is done.
  private func apply(_ sequence: UInt64, _ frame: IncomingFrame) throws(RelayFailure) -> Bool {
    switch frame {
    case .pages(let header, let buffer):
      guard !entrance.hasBegun else { throw .protocolViolation("pages beside the handover") }
      return try apply(sequence, frame, header) { () throws(RelayFailure) in buffer }
    case .encoded(let header, let body):
      guard !entrance.hasBegun else { throw .protocolViolation("pages beside the handover") }
      return try apply(sequence, frame, header, body)
    case .invalidPages(let pages):
      guard let layout = layout.read({ $0 }) else {
        throw .protocolViolation("invalid pages before the RAM layout")
      }
      try entrance.take(pages, layout.blocks)
      return true
    case .deviceState(let part):
      guard try entrance.take(part) else { return true }
    case .verbatim, .ramEnd, .tail:
      guard !entrance.hasBegun else {
        throw .protocolViolation("QEMU's stream goes on during a pull")
      }
    }
    feeder.append(sequence, frame)
    return false
  }
}
