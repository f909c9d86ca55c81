import HostIO
import Logging
import QMP
import Strategy
import Wire

/// One migration at the source, from the request to its record.
///
/// `run` is the story in order; each step lives in a file of its own. Everything that can happen
/// meanwhile (peer, QEMU, threads, the operator) arrives in one mailbox, so that nothing happens
/// between two steps.
final class SourceMigration: Sendable {
  enum Event: Sendable {
    case peer(PeerLink.Inbound)
    case relay(SourceRelay.Event)
    case pull(PullServer.Event)
    /// QEMU has stopped the guest and waits for our word (`pre-switchover`).
    case paused
    case qemuGone
    case cancel
  }

  /// What is known so far, for progress, the record, and the way back.
  struct State: Sendable {
    var record: MigrationRecord
    var progress: MigrationProgress
    var estimator: ProgressEstimator
    /// What the ETA said so far.
    var etaTrack = EtaTrack()
    var wait = ConnectionWait()
    var isCancelled = false
    /// The whole stream is on its way, so the destination can have all of the guest.
    var streamHasEnded = false
    /// Whether the guest ran right before it was stopped, as the stream says; nil: not known.
    var guestRan: Bool?
    /// The source's QEMU died with the guest frozen and the whole stream out: the destination is
    /// all there is, and nothing else can ever run the guest.
    var qemuHasDied = false
    /// It did, and the destination has all of the guest.
    var sourceIsGone = false
    /// The guest's memory as it is read once the guest has stopped here for good; nil: it cannot be.
    var stoppedMemory: StoppedMemory?
    /// Gives pages to a destination that runs the guest before its memory.
    var pullServer: PullServer?
    /// How the pull ended, once it has.
    var pullEnd: PullEnd?
    /// Pages that an audit left to the pull.
    var auditLeftPages: UInt64 = 0
    /// Of the guest, as its QEMU says; zeros where it has none.
    var guestUUID = ""
    /// When everything was done but keeping a copy, in milliseconds; nil: nothing is kept.
    var movedAtMs: UInt64?
    /// When QEMU had stopped the guest to wait for its disks, in milliseconds.
    var pausedAtMs: UInt64?
    /// When copies of disks that go on beside the memory were looked at last.
    var disksLookedAtMs: UInt64 = 0
    /// When the stream told that the guest is stopped, in milliseconds.
    var stoppedAtMs: UInt64?
    var lastWire: (atMs: UInt64, bytes: UInt64)?
    /// Who hears how it goes, for those who watch at the destination; and when it last did.
    var watcher: PeerLink?
    var toldAtMs: UInt64 = 0
  }

  enum PullEnd: Sendable {
    case done(PullDone)
    case failed(RelayFailure)
  }

  static let connectTimeoutMs: UInt64 = 5000
  /// One attempt to open a lane again.
  static let redialTimeoutMs: UInt64 = 2000
  /// Longest wait for an answer of the peer's that takes no work.
  static let answerTimeoutMs: UInt64 = 30_000
  /// Longest time for the pages of a stopped guest; then the guest goes on here.
  static let switchoverTimeoutMs: UInt64 = 120_000
  /// How long the end of QEMU's socket may come before the end of its process.
  static let processEndTimeoutMs: UInt64 = 3000
  static let sampleIntervalMs: UInt64 = 50
  static let tellIntervalMs: UInt64 = 500

  let id: MigrationID
  let request: MigrationRequest
  let configuration: AgentConfiguration
  let logger: Logger
  /// Its part of the bandwidth that all outgoing migrations share.
  let share: LinkShare
  /// Guests that move together with this one; nil: it goes alone.
  let gang: GangMember?
  let mailbox = Mailbox<Event>()
  let state: Guarded<State>
  let startedAtMs = MonotonicClock.nowMs
  /// Takes the guest for this migration alone; says why it can't be had.
  let claim: @Sendable (ResolvedVM, MigrationID) async -> Refusal?
  private let onProgress: @Sendable (MigrationProgress) -> Void
  /// Fault injection: how long to stay in a phase, see CONTRIBUTING.
  let holds: PhaseHolds

  init(
    request: MigrationRequest, configuration: AgentConfiguration, share: LinkShare,
    gang: GangMember? = nil, logger: Logger,
    claim: @escaping @Sendable (ResolvedVM, MigrationID) async -> Refusal?,
    onProgress: @escaping @Sendable (MigrationProgress) -> Void
  ) {
    var random = SystemRandomNumberGenerator()
    id = MigrationID(using: &random)
    var logger = logger
    logger[metadataKey: "migration"] = "\(id)"
    (self.request, self.configuration, self.logger) = (request, configuration, logger)
    (self.share, self.gang) = (share, gang)
    (self.claim, self.onProgress) = (claim, onProgress)
    holds = PhaseHolds.fromEnvironment()
    var record = MigrationRecord(outcome: .failed)
    record.id = id.description
    record.vm = request.vm
    record.destination = request.destination
    record.startedAt = MonotonicClock.wallSeconds
    record.strategy = request.strategy
    record.withinMs = request.withinMs
    let progress = MigrationProgress(
      id: id.description, vm: request.vm, peer: request.destination, side: "source",
      phase: .prepare, strategy: request.strategy)
    state = Guarded(
      State(
        record: record, progress: progress,
        estimator: ProgressEstimator(downtimeLimitMs: request.downtimeLimitMs)))
  }

  /// Runs the migration. The record says how it ended.
  func run() async -> MigrationRecord {
    var undo = SourceUndo()
    var machine = SourceCommitMachine()
    do {
      try await enter(.prepare)
      let setup = try await prepare(&undo)
      let origin = try await openJournal(setup, &undo)
      try await copyDisks(setup, &undo)
      let copy = try await begin(setup, origin, &undo)
      try await copyUntilLoaded(setup, copy)
      try await agreeOnRunState(setup, copy, undo)
      try await auditIfThere(setup, copy)
      try await readyToCommit(copy)
      machine.handle(
        .loaded(
          sourceIsGone: state.read { $0.sourceIsGone },
          pulls: copy.relay.ledger.state.read { $0.pulls }))
    } catch {
      describe(error, undo)
      machine.handle(.gaveUp)
    }
    // Paused meanwhile it stays so, also here.
    if let guestRan = state.read({ $0.guestRan }) { undo.guestWasRunning = guestRan }
    conclude(await settle(&machine, &undo))
    await stopPull()
    await undo.closeLinks()
    note { state in
      state.record.totalMs = (state.movedAtMs ?? MonotonicClock.nowMs) - startedAtMs
      if state.record.outcome == .completed {
        state.record.eta = EtaRecord(state.etaTrack, totalMs: state.record.totalMs ?? 0)
        state.estimator.finished()
        state.progress.phase = .done
      } else {
        state.record.disk.keptAtSource = nil
      }
    }
    report()
    return state.read { $0.record }
  }

  func cancel() {
    state.update { $0.isCancelled = true }
    mailbox.put(.cancel)
  }

  var progress: MigrationProgress { state.read { $0.progress } }

  func note(_ change: (inout State) -> Void) { state.update(change) }

  /// Enters a phase: progress, log, and a hold where fault injection asks for one.
  func enter(_ phase: MigrationPhase) async throws {
    note { $0.progress.phase = max($0.progress.phase, phase) }
    logger.info("phase", metadata: ["phase": "\(phase.rawValue)"])
    report()
    try await holds.hold(phase)
  }

  /// Publishes what is known now.
  func report() {
    let progress = state.update { state in
      let nowMs = MonotonicClock.nowMs
      state.progress.elapsedMs = nowMs - startedAtMs
      if state.stoppedAtMs != nil, state.progress.phase < .pull {
        state.estimator.stopped(nowMs: nowMs)
      }
      state.wait.note(isConnected: state.progress.isConnected, nowMs: nowMs)
      let memoryPermille = state.estimator.permille
      // While disks are copied the memory's turn has not come, and `noteDisks` has said how far it is.
      guard state.progress.phase != .disks else { return state.progress }
      state.progress.progressPermille = state.overall(memoryPermille)
      state.progress.etaMs = state.estimator.etaMs
      let band = state.estimator.band
      (state.progress.etaLowMs, state.progress.etaHighMs) = (band.lowMs, band.highMs)
      state.progress.waits(forMs: state.estimator.waitedMs ?? state.wait.waitedMs(nowMs: nowMs))
      if state.progress.phase < .done {
        state.etaTrack.note(
          atMs: state.progress.elapsedMs, etaMs: state.progress.etaMs,
          lowMs: state.progress.etaLowMs, highMs: state.progress.etaHighMs)
      }
      return state.progress
    }
    onProgress(progress)
    tellPeer(progress)
  }

  /// Tells the destination how it goes, twice a second while there is a connection.
  private func tellPeer(_ progress: MigrationProgress) {
    let now = MonotonicClock.nowMs
    let watcher = state.update { state -> PeerLink? in
      guard progress.phase >= .disks, progress.phase < .commit,
        now >= state.toldAtMs + Self.tellIntervalMs
      else {
        return nil
      }
      state.toldAtMs = now
      return state.watcher
    }
    guard let watcher, watcher.lane.condition.isConnected else { return }
    _ = try? watcher.send(.progress(PeerProgress(progress)))
  }
}
