import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Strategy
import Wire

/// One migration at the destination, from the peer's hello to the running guest, or to nothing left.
///
/// It decides nothing once it is PREPARED: from `loaded` on it waits for `commit`, `abort`, or a
/// verdict over another connection, however long the source is gone.
final class DestinationMigration: Sendable {
  enum Event: Sendable {
    case peer(PeerLink.Inbound)
    case relay(DestinationRelay.Event)
    case qemuGone
    /// A verdict over a `settle` connection; the answer goes to the closure.
    /// with nil when this session has ended meanwhile and only the journal knows.
    case verdict(CommitVerdict, @Sendable (CommitSettlement?) -> Void)
  }

  struct State: Sendable {
    var progress: MigrationProgress
    /// The data lanes' entrance, open while the migration runs.
    var relay: DestinationRelay?
    var laneCount: UInt16 = 1
    /// Disks that come with the guest, while they are served.
    var disks: IncomingDisks?
    var wait = ConnectionWait()
    /// When the guest has its last page; and how many were missing at the first look.
    var pullEta = PullEta()
    var missingAtFirst: UInt64?
  }

  static let answerTimeoutMs: UInt64 = 60_000
  static let loadPollMs: UInt64 = 5
  /// How much longer than the source this side waits for a connection, at most: the source decides.
  static let patienceMarginMs: UInt64 = 30_000

  let id: MigrationID
  let token: MigrationID
  let configuration: AgentConfiguration
  let logger: Logger
  /// Memory of guests that came here in gangs.
  let gangs: GangGuests
  let link: PeerLink
  /// Names of the source's certificate; empty over plain TCP.
  let peerNames: [String]
  let mailbox = Mailbox<Event>()
  let state: Guarded<State>
  let holds = PhaseHolds.fromEnvironment()
  private let startedAtMs = MonotonicClock.nowMs

  init(
    id: MigrationID, socket: any ByteConnection, configuration: AgentConfiguration,
    gangs: GangGuests = GangGuests(), logger: Logger
  ) {
    var random = SystemRandomNumberGenerator()
    (self.id, self.token) = (id, MigrationID(using: &random))
    var logger = logger
    logger[metadataKey: "migration"] = "\(id)"
    (self.configuration, self.gangs, self.logger) = (configuration, gangs, logger)
    (link, peerNames) = (PeerLink(socket), PeerSecurity.peerNames(of: socket))
    state = Guarded(
      State(
        progress: MigrationProgress(
          id: id.description, vm: "", peer: socket.peer, side: "destination", phase: .prepare,
          strategy: "precopy")))
  }

  var progress: MigrationProgress {
    state.read { state in
      var progress = state.progress
      let nowMs = MonotonicClock.nowMs
      progress.elapsedMs = nowMs - startedAtMs
      progress.waits(forMs: state.pullEta.waitedMs ?? state.wait.waitedMs(nowMs: nowMs))
      return progress
    }
  }

  /// Lets a connection of this migration in: a data lane, or the control lane after a break. The
  /// text is why not, for the peer.
  func admit(_ socket: any ByteConnection, hello: Hello) -> String? {
    guard hello.token == token else { return "wrong token" }
    if hello.role == .resume {
      PeerConnection.welcome(socket)
      link.lane.attach(socket)
      return nil
    }
    if hello.role == .disk {
      guard let disks = state.read({ $0.disks }) else { return "no disk is expected" }
      PeerConnection.welcome(socket)
      // The source looks after its copies: there a connection that ends is heard of.
      if disks.attach(socket) != nil { socket.shutdown() }
      return nil
    }
    let relay = state.read { state in
      (1...state.laneCount).contains(hello.lane) ? state.relay : nil
    }
    guard let relay else { return "lane \(hello.lane) is not expected" }
    PeerConnection.welcome(socket)
    relay.addLane(socket, number: hello.lane)
    return nil
  }

  /// Lets a connection in that pages are asked for over, or tells it why not; false: none is expected.
  func admitPull(_ socket: any ByteConnection, hello: Hello) -> Bool {
    guard hello.token == token else {
      PeerConnection.welcome(socket, refusal: "wrong token")
      return true
    }
    guard let port = state.read({ $0.relay?.port }) else { return false }
    PeerConnection.welcome(socket)
    return port.attach(socket, lane: hello.lane)
  }

  /// Runs to the end. Everything that was started is gone afterwards, unless the guest runs here.
  ///
  /// The record is for the history; nil when nothing had begun, or nothing is settled yet.
  func run() async -> MigrationRecord? {
    link.start(backlog: { [mailbox] in mailbox.count }) { [mailbox] in mailbox.put(.peer($0)) }
    var undo = DestinationUndo()
    let end = await settle(&undo)
    if let failure = undo.failure {
      logger.warning("migration ended", metadata: ["reason": "\(describe(failure))"])
    }
    if end == .ended(.running), let qemu = undo.qemu { await restoreEvents(qemu) }
    leaveGang(undo, hasArrived: end == .ended(.running))
    let (relay, disks, link) = (undo.relay, undo.disks, link)
    _ = try? await Blocking.run {
      relay?.stop()
      disks?.stop()
      link.close()
    }
    await undo.qemu?.monitor.close()
    undo.asker?(nil)
    for case .verdict(_, let answer) in mailbox.close() { answer(nil) }
    guard case .ended(let outcome) = end, undo.journal != nil else { return nil }
    return record(outcome, undo)
  }

  private func record(_ outcome: DestinationOutcome, _ undo: DestinationUndo) -> MigrationRecord {
    var record = MigrationRecord(
      outcome: outcome == .running ? .completed : .failed, reason: undo.failure.map(describe))
    if case .refused = undo.failure as? Ending { record.outcome = .refused }
    let progress = progress
    (record.id, record.vm, record.side) = (id.description, progress.vm, "destination")
    (record.source, record.strategy) = (progress.peer, progress.strategy)
    record.totalMs = progress.elapsedMs
    record.startedAt = MonotonicClock.wallSeconds - Int64(progress.elapsedMs / 1000)
    return record
  }

  /// Everything up to PREPARED: QEMU has taken the whole stream and stands there paused.
  func receive(_ undo: inout DestinationUndo) async throws {
    try await holds.hold(.prepare)
    guard case .prepare(let request) = try await nextMessage("`prepare`", &undo) else {
      throw Ending.failed("the source did not begin with `prepare`")
    }
    state.update { state in
      (state.progress.vm, state.progress.strategy) = (request.vm, request.strategy)
    }
    undo.resumesGuest = request.source.isRunning
    let qemu = try await prepare(request, &undo)
    // Disks may take hours; that the source is there the lane sees.
    let patienceMs = undo.disks == nil ? Self.answerTimeoutMs : nil
    guard case .begin(let order) = try await nextMessage("`begin`", &undo, patienceMs) else {
      throw Ending.failed("the source did not go on with `begin`")
    }
    try await open(order, qemu, &undo)
    try await holds.hold(.bulk)
    try await load(qemu, &undo)
  }

  func enter(_ phase: MigrationPhase) {
    state.update { $0.progress.phase = max($0.progress.phase, phase) }
    logger.info("phase", metadata: ["phase": "\(phase.rawValue)"])
  }

  /// The next message; everything that ends the migration throws.
  ///
  /// - Parameter patienceMs: nil: as long as the source is there.
  private func nextMessage(
    _ what: String, _ undo: inout DestinationUndo,
    _ patienceMs: UInt64? = DestinationMigration.answerTimeoutMs
  ) async throws -> PeerMessage {
    let deadline = patienceMs.map { MonotonicClock.nowMs + $0 }
    while true {
      let now = MonotonicClock.nowMs
      let leftMs = deadline.map { $0 > now ? $0 - now : 0 } ?? Self.answerTimeoutMs
      guard leftMs > 0 else { throw Ending.failed("the source sent no \(what) in time") }
      guard let event = await mailbox.take(timeoutMs: leftMs) else { continue }
      if let message = try message(in: event, &undo) { return message }
    }
  }

  /// A message in `event`, if it is one; throws when the event ends a migration before PREPARED.
  func message(in event: Event, _ undo: inout DestinationUndo) throws -> PeerMessage? {
    switch event {
    case .peer(.message(.abort(let reason))):
      throw Ending.failed("given up by the source: \(reason)")
    case .peer(.message(.refused(let refusals))): throw Ending.refused(refusals)
    case .peer(.message(let message)): return message
    case .peer(.ended(let failure)):
      throw Ending.failed("connection to the source: \(failure?.description ?? "closed")")
    case .relay(.failed(let failure)): throw Ending.failed("\(failure)")
    case .peer(.connection(let isUp)):
      state.update { $0.note(isConnected: isUp, nowMs: MonotonicClock.nowMs) }
      return nil
    case .relay(.streamFed), .relay(.pull), .relay(.pullConnection): return nil
    case .qemuGone: throw Ending.failed("the destination's QEMU ended")
    case .verdict(_, let answer):
      undo.asker = answer  // hears `gone` once that is true
      throw Ending.failed("given up by the source after its restart")
    }
  }

  func describe(_ error: any Error) -> String {
    switch error {
    case Ending.refused(let refusals): refusals.map(\.description).joined(separator: "; ")
    case Ending.failed(let text), Ending.sourceLost(let text): text
    case Ending.cancelled: "cancelled"
    default: "\(error)"
    }
  }
}
