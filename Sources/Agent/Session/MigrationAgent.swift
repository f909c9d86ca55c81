import Base
import HostIO
public import Logging
import Wire

/// The per-host service: runs migrations out of this host and into it, and settles what an earlier
/// agent left behind.
public actor MigrationAgent: AgentService {
  /// Migrations at once, each way.
  static let outgoingMax = 256
  static let incomingMax = 256
  static let shutdownTimeoutMs: UInt64 = 10_000

  nonisolated let configuration: AgentConfiguration
  nonisolated let logger: Logger
  private let historyStore: HistoryStore?
  private var outgoing: [String: SourceMigration] = [:]
  private var incoming: [MigrationID: DestinationMigration] = [:]

  public init(configuration: AgentConfiguration, history: HistoryStore?, logger: Logger) {
    (self.configuration, self.historyStore, self.logger) = (configuration, history, logger)
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
    } else if outgoing.count >= Self.outgoingMax {
      refusal = Refusal(
        .request, "\(outgoing.count) migrations are running", remedy: "wait for one to end")
    }
    if let refusal {
      var record = MigrationRecord(outcome: .refused, reason: refusal.description)
      (record.vm, record.destination) = (request.vm, request.destination)
      return record
    }
    let migration = SourceMigration(
      request: request, configuration: configuration, logger: logger, onProgress: progress)
    outgoing[request.vm] = migration
    let record = await migration.run()
    outgoing[request.vm] = nil
    await historyStore?.add(record)
    return record
  }

  public func status() -> [MigrationProgress] {
    (outgoing.values.map(\.progress) + incoming.values.map(\.progress)).sorted { $0.id < $1.id }
  }

  public func cancel(vm: String) throws {
    let running = outgoing.values.filter { $0.progress.vm == vm || $0.request.vm == vm }
    guard let migration = running.first else { throw AgentError.notMigrating(vm) }
    migration.cancel()
  }

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

  // MARK: Connections from other agents

  /// Serves a connection that came in; called on a thread of its own.
  nonisolated func serve(_ accepted: StreamSocket) {
    let socket: any ByteConnection
    do {
      socket = try PeerSecurity(configuration)
        .server(accepted, timeoutMs: PeerListener.helloTimeoutMs)
    } catch {
      logger.warning(
        "connection refused", metadata: ["peer": "\(accepted.peer)", "error": "\(error)"])
      return accepted.shutdown()
    }
    let hello: Hello
    do { hello = try PeerConnection.greet(socket, timeoutMs: PeerListener.helloTimeoutMs) } catch {
      logger.debug("connection refused", metadata: ["peer": "\(socket.peer)", "error": "\(error)"])
      return socket.shutdown()
    }
    Task {
      switch hello.role {
      case .control: await receive(hello, socket)
      case .data: await admit(hello, socket)
      case .settle: await PeerVerdict.serve(hello.migration, socket, agent: self)
      }
    }
  }

  private func receive(_ hello: Hello, _ socket: any ByteConnection) async {
    guard incoming[hello.migration] == nil, incoming.count < Self.incomingMax else {
      return PeerConnection.welcome(socket, refusal: "too many migrations, or one with this id")
    }
    let migration = DestinationMigration(
      id: hello.migration, socket: socket, configuration: configuration, logger: logger)
    incoming[hello.migration] = migration
    PeerConnection.welcome(socket)
    await migration.run()
    incoming[hello.migration] = nil
  }

  private func admit(_ hello: Hello, _ socket: any ByteConnection) {
    let refusal = incoming[hello.migration]?.admit(socket, hello: hello)
    if incoming[hello.migration] == nil {
      PeerConnection.welcome(socket, refusal: "no such migration")
    } else if let refusal {
      PeerConnection.welcome(socket, refusal: refusal)
    }
  }

  /// The running migration that a verdict is about.
  func incomingMigration(_ id: MigrationID) -> DestinationMigration? { incoming[id] }

  /// Whether a journal belongs to a migration that runs now.
  func isActive(_ id: String) -> Bool {
    outgoing.values.contains { $0.id.description == id }
      || incoming.keys.contains { $0.description == id }
  }

  func remember(_ record: MigrationRecord) async { await historyStore?.add(record) }
}

/// What an agent answers to a command that makes no sense now.
enum AgentError: Error, CustomStringConvertible {
  case notMigrating(String)

  var description: String {
    switch self {
    case .notMigrating(let vm):
      "no migration of \(vm) is running from this host; see `godwit status`"
    }
  }
}
