import Base
import HostIO
public import Logging
import Synchronization
import Wire

/// The per-host service: runs migrations out of this host and into it, and settles what an earlier
/// agent left behind.
public actor MigrationAgent: AgentService {
  static let shutdownTimeoutMs: UInt64 = 10_000

  private nonisolated let settings: Mutex<AgentConfiguration>
  nonisolated let link: OutgoingLink
  /// Guests that move together, out of this host and into it.
  nonisolated let gangs = OutgoingGangs()
  nonisolated let gangGuests = GangGuests()
  /// No new migrations: the agent is about to end.
  private(set) var isDraining = false
  /// What has ended since the start, for the metrics.
  var counters = AgentCounters()
  nonisolated let logger: Logger
  let historyStore: HistoryStore?
  private var outgoing: [String: SourceMigration] = [:]
  /// The QEMUs of these.
  private var claimed: [MigrationID: ResolvedVM] = [:]
  var incoming: [MigrationID: DestinationMigration] = [:]
  /// Pulls that an earlier agent of this host left behind: into it, and out of it.
  var revivals: [MigrationID: PullRevival] = [:]
  var servers: [MigrationID: RevivedServer] = [:]
  /// Guests of theirs that this agent has told to run.
  var resumed: Set<String> = []
  /// Journals that are being settled now.
  private var settling: Set<String> = []
  /// Guests that are looked at from outside now, and connections of other agents' probes.
  var samplers = 0
  var probes = 0
  /// Guests whose memory is copied to another host now, and copies that come in.
  var warming: Set<String> = []
  var warmed = 0

  /// - Parameter history: where records of ended migrations are kept; nil: nowhere.
  public init(configuration: AgentConfiguration, history: HistoryStore?, logger: Logger) {
    settings = Mutex(configuration)
    link = OutgoingLink(rate: configuration.bandwidth)
    (self.historyStore, self.logger) = (history, logger)
  }

  /// As of now; a migration keeps what it began with.
  nonisolated var configuration: AgentConfiguration { settings.withLock { $0 } }

  /// Takes a new configuration over for what begins from now on, and the bandwidth at once.
  ///
  /// - Returns: the keys that take a new start of the agent; their old values stay.
  public nonisolated func reload(_ new: AgentConfiguration) -> [String] {
    let (taken, restart) = settings.withLock { current in
      let result = current.reloaded(new)
      current = result.0
      return result
    }
    link.setRate(taken.bandwidth)
    return restart
  }

  // MARK: AgentService

  public func vms() async throws -> [VMSummary] {
    let found = await VMDiscovery.statuses(of: try await VMDiscovery.scan())
    return found.map { vm in
      var summary = VMSummary(
        name: vm.name, pid: vm.pid, monitor: vm.monitorPath, status: vm.status)
      (summary.qemuVersion, summary.machine) = (vm.qemuVersion, vm.machine)
      summary.ramBytes = vm.ramBytes
      if vm.monitorPath == nil {
        summary.problem =
          "no QMP monitor on a unix socket; start QEMU with -qmp unix:PATH,server=on,wait=off"
      } else if vm.status == nil {
        summary.problem = "the monitor does not answer; another program may hold it"
      }
      return summary
    }
  }

  public func migrate(
    _ request: MigrationRequest, progress: @Sendable @escaping (MigrationProgress) -> Void
  ) async -> MigrationRecord {
    var refusal: Refusal?
    if outgoing[request.vm] != nil {
      refusal = Refusal(
        .migrationRunning, "a migration of \(request.vm) is already running",
        remedy: "see `godwit status`; end it with `godwit cancel \(request.vm)`")
    } else if isDraining {
      refusal = Refusal(
        .request, "the agent of this host is shutting down", remedy: "start it again")
    } else if outgoing.count >= configuration.outgoingMax {
      refusal = Refusal(
        .request, "\(outgoing.count) migrations out of this host are running, its limit",
        remedy: "wait for one to end, or raise outgoingMax in the agent's configuration")
    } else {
      refusal = unsettledRefusal(of: request.vm) {
        $1.vm == request.vm || "qmp:" + $1.monitorPath == request.vm
      }
    }
    if let refusal {
      var record = MigrationRecord(outcome: .refused, reason: refusal.description)
      (record.vm, record.destination) = (request.vm, request.destination)
      return record
    }
    let share = link.join()
    let gang = joinGang(request)
    let migration = SourceMigration(
      request: request, configuration: configuration, share: share, gang: gang, logger: logger,
      claim: { [weak self] vm, id in await self?.claim(vm, id) }, onProgress: progress)
    outgoing[request.vm] = migration
    defer { claimed[migration.id] = nil }
    var record = await migration.run()
    if let forecast = request.forecast { record.forecast.add(forecast) }
    share.leave()
    if let gang { leaveGang(gang, record) }
    await historyStore?.add(record)
    // Last: an agent that drains ends once nothing is here any more. Both at once: what has ended is counted, what runs is
    // added to it, and whoever looks sees each migration in one of the two.
    counters.add(record, sentBytes: migration.progress.wireBytes)
    outgoing[request.vm] = nil
    return record
  }

  /// Takes a guest for a migration, until that is over: whatever names it goes by, it moves once at a time.
  ///
  /// - Returns: why it can't be had; nil: it is taken.
  private func claim(_ vm: ResolvedVM, _ id: MigrationID) -> Refusal? {
    if claimed.values.contains(where: { $0.isSameQEMU(vm) }) {
      return Refusal(
        .migrationRunning, "a migration of \(vm.name) is already running",
        remedy: "see `godwit status`; end it with `godwit cancel \(vm.name)`")
    }
    let refusal = unsettledRefusal(of: vm.name) { story, start in
      start.monitorPath == vm.monitorPath
        || (story.process != nil && story.process == vm.process?.identity)
    }
    if refusal == nil { claimed[id] = vm }
    return refusal
  }

  public func status() -> [MigrationProgress] {
    (outgoing.values.map(\.progress) + incoming.values.map(\.progress)).sorted { $0.id < $1.id }
  }

  public func cancel(vm: String) throws {
    let running = outgoing.values.filter { $0.progress.vm == vm || $0.request.vm == vm }
    guard let migration = running.first else { throw AgentError.notMigrating(vm) }
    migration.cancel()
  }

  /// Lets no migration begin any more and gives those that run `drainTimeout` to end.
  public func drain() async {
    isDraining = true
    let deadline = MonotonicClock.nowMs + configuration.drainTimeoutMs
    while !outgoing.isEmpty || !incoming.isEmpty, MonotonicClock.nowMs < deadline,
      !Task.isCancelled
    {
      try? await Task.sleep(nanoseconds: 20_000_000)
    }
  }

  /// What the metrics are made of, as of one instant.
  struct Snapshot: Sendable {
    let isDraining: Bool
    let counters: AgentCounters
    let running: [MigrationProgress]
  }

  var snapshot: Snapshot {
    Snapshot(isDraining: isDraining, counters: counters, running: status())
  }

  /// How many run, each way.
  public var counts: (outgoing: Int, incoming: Int) { (outgoing.count, incoming.count) }

  /// Ends what can be ended before the agent stops; what is past its commit goes on to its end.
  /// Waits at most `shutdownTimeoutMs`: the journal has whatever is left.
  func cancelAll() async {
    for migration in outgoing.values { migration.cancel() }
    let deadline = MonotonicClock.nowMs + Self.shutdownTimeoutMs
    while !outgoing.isEmpty, MonotonicClock.nowMs < deadline {
      try? await Task.sleep(nanoseconds: 20_000_000)
    }
  }

  public func history(limit: Int) async throws -> [MigrationRecord] {
    try await historyStore?.latest(limit: limit) ?? []
  }

  /// Whether a journal belongs to a migration that runs now.
  func isActive(_ id: String) -> Bool {
    outgoing.values.contains { $0.id.description == id }
      || incoming.keys.contains { $0.description == id }
  }

  /// Settles one journal at a time: a verdict may come while the recovery works on the same one.
  ///
  /// - Parameter patienceMs: how long whoever is settling it at this moment is waited for.
  nonisolated func exclusively<T: Sendable>(
    _ id: String, patienceMs: UInt64 = 0, _ body: () async throws -> T
  ) async throws -> T {
    let deadlineMs = MonotonicClock.nowMs + patienceMs
    while await !beginSettling(id) {
      guard MonotonicClock.nowMs < deadlineMs else { throw AgentError.isBeingSettled(id) }
      try await Task.sleep(nanoseconds: 20_000_000)
    }
    do {
      let value = try await body()
      await endSettling(id)
      return value
    } catch {
      await endSettling(id)
      throw error
    }
  }

  private func beginSettling(_ id: String) -> Bool { settling.insert(id).inserted }
  private func endSettling(_ id: String) { settling.remove(id) }

  func remember(_ record: MigrationRecord) async { await historyStore?.add(record) }
}

/// What an agent answers to a command that makes no sense now.
enum AgentError: Error, CustomStringConvertible {
  case notMigrating(String)
  case isBeingSettled(String)

  var description: String {
    switch self {
    case .notMigrating(let vm):
      "no migration of \(vm) is running from this host; see `godwit status`"
    case .isBeingSettled(let id): "migration \(id) is being settled right now; try again"
    }
  }
}
