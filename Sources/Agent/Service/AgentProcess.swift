import Glibc
public import HostIO
public import Logging
import ServiceLifecycle
import UnixSignals

/// All of `godwit agent`: its services, what they tell the service manager, and their end.
public struct AgentProcess: Sendable {
  /// For what ends after the migrations: sockets, threads, journals.
  static let closingMs: UInt64 = 20_000

  private let load: @Sendable () throws -> AgentConfiguration
  private let controlSocket: String
  private let logger: Logger
  private let sockets: InheritedSockets
  private let manager: ServiceManager

  /// - Parameters:
  ///   - load: reads the configuration: at the start, and again at each SIGHUP.
  ///   - controlSocket: path, used when none was inherited.
  public init(
    load: @escaping @Sendable () throws -> AgentConfiguration, controlSocket: String,
    sockets: InheritedSockets = .fromEnvironment(), manager: ServiceManager = .fromEnvironment(),
    logger: Logger
  ) {
    (self.load, self.controlSocket, self.logger) = (load, controlSocket, logger)
    (self.sockets, self.manager) = (sockets, manager)
  }

  /// Runs until SIGTERM or SIGINT; then no migration begins any more, and those that run have
  /// `drainTimeout` to end.
  public func run() async throws {
    // A journal that grows past a limit is an error to handle, not a signal to die of.
    _ = signal(SIGXFSZ, SIG_IGN)
    // From the first: a SIGHUP that came between `ready` and the service that reads it would end the agent.
    let hangups = await UnixSignalsSequence(trapping: .sighup)
    if ClockStep.isOn { logger.warning("fault injection: the wall clock may be wrong on purpose") }
    let configuration = try load()
    // What an agent that was killed had begun to write is of no use, and a secret.
    _ = try? await Blocking.run { Vault(configuration).removeLeftovers() }
    let history = await HistoryStore.open(directory: configuration.stateDirectory, logger: logger)
    let agent = MigrationAgent(configuration: configuration, history: history, logger: logger)
    for raw in sockets.unknown {
      logger.warning("inherited socket not used", metadata: ["descriptor": "\(raw)"])
    }
    let listener = try PeerListener(agent: agent, inherited: sockets.peers, logger: logger)
    let control = ControlServer(
      path: controlSocket, inherited: sockets.control, agent: agent, logger: logger
    ) { [manager] in manager.ready(status: "accepting migrations") }
    // Ended from last to first, each when the one after it has ended: while migrations drain, their
    // peers and `godwit watch` stay connected.
    var services: [any Service] = [listener, control, RecoveryService(agent: agent)]
    if let address = configuration.metrics {
      let health = AgentHealth(agent: agent)
      services.append(
        MetricsServer(address: address, answers: { await health.answer($0) }, logger: logger))
    }
    services += [
      ReloadService(agent: agent, manager: manager, hangups: hangups, load: load),
      DrainService(agent: agent, manager: manager),
    ]
    let group = ServiceGroup(
      configuration: .init(
        services: services.map { .init(service: $0) },
        gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
    try await group.run()
  }
}

/// Takes a new configuration over at SIGHUP.
struct ReloadService: Service {
  let agent: MigrationAgent
  let manager: ServiceManager
  /// Caught before the manager is told that the agent is ready.
  let hangups: UnixSignalsSequence
  let load: @Sendable () throws -> AgentConfiguration

  func run() async throws {
    for await _ in hangups.cancelOnGracefulShutdown() {
      reload()
    }
  }

  /// A file that is wrong changes nothing.
  func reload() {
    manager.reloading()
    defer { manager.ready(status: "accepting migrations") }
    let logger = agent.logger
    do {
      let configuration = try load()
      for warning in try configuration.checkSecurity() { logger.warning("\(warning)") }
      let restart = agent.reload(configuration)
      logger.info("configuration read again")
      if !restart.isEmpty {
        logger.warning(
          "changed keys that need a new start of the agent",
          metadata: ["keys": "\(restart.joined(separator: ", "))"])
      }
    } catch {
      logger.error("configuration not usable, the old one stays", metadata: ["error": "\(error)"])
    }
  }
}

/// Stands between the signal that ends the agent and the end of its other services.
struct DrainService: Service {
  let agent: MigrationAgent
  let manager: ServiceManager

  func run() async throws {
    try? await gracefulShutdown()
    guard Task.isShuttingDownGracefully else { return }
    let limitMs = agent.configuration.drainTimeoutMs
    let (outgoing, incoming) = await agent.counts
    manager.stopping(
      withinMs: limitMs + AgentProcess.closingMs,
      status: "waiting for \(outgoing) migrations out and \(incoming) in")
    if outgoing + incoming > 0 {
      agent.logger.info(
        "waiting for migrations to end",
        metadata: ["outgoing": "\(outgoing)", "incoming": "\(incoming)"])
    }
    await agent.drain()
    // While the control socket is open, so that whoever waits for one is told how it ended.
    await agent.cancelAll()
  }
}
