import Agent
import Base
import HostIO

/// Moves the guest through two of Godwit's agents, one on each host.
struct GodwitMover: Mover {
  /// How long a QEMU that was told to end may take, in milliseconds.
  private static let endingMs: UInt64 = 5000

  let strategy: String
  let session: GuestSession
  let observer: any LabObserver
  /// They were there before the move that counts.
  private var agents: Agents?

  private struct Agents: Sendable {
    let source, destination: LabAgent
  }

  init(strategy: String, session: GuestSession, observer: any LabObserver) {
    (self.strategy, self.session, self.observer) = (strategy, session, observer)
  }

  /// Whether the guest was at the destination before, and comes back.
  private var returns: Bool { session.home == .destination }

  private func startAgents() async throws -> Agents {
    try await indexRootDisk()
    let source = try await LabAgent.start(.source, session: session)
    do {
      return Agents(
        source: source, destination: try await LabAgent.start(.destination, session: session))
    } catch {
      await source.end()
      throw error
    }
  }

  /// Ends the agents, and the QEMUs that they started, which outlive them.
  private func end(_ agents: Agents) async {
    await agents.source.end()
    await agents.destination.end()
    let sides: [HostPair.Side] = returns ? [.source, .destination] : [.destination]
    for side in sides {
      let mark = session.file("\(side.rawValue).tty")
      let left = Leftovers.processes(naming: mark).compactMap { ProcessIdentity(pid: $0) }
      Leftovers.endProcesses(naming: mark)
      // The next guest needs their network.
      for process in left { _ = try? await process.waitForExit(timeoutMs: Self.endingMs) }
    }
  }

  private func failure(_ error: any Error, _ agents: Agents) -> any Error {
    LabError(
      "\(error); source agent: \(agents.source.lastWords);"
        + " destination agent: \(agents.destination.lastWords)")
  }

  /// The guest leaves the host that it is to return to, and its memory is kept there.
  mutating func prepare() async throws {
    guard returns else { return }
    let agents = try await startAgents()
    do {
      try LabAgent.files(.source, session).define(session)
      var request = MigrationRequest(
        vm: "qmp:\(session.source.monitorPath)",
        destination: "\(session.hosts.address(.source)):\(agents.source.port)")
      request.keepMemory = true
      let client = ControlClient(path: agents.destination.controlSocket)
      for try await update in client.migrate(request) {
        guard case .finished(let record) = update else { continue }
        guard record.outcome == .completed, record.kept?.problem == nil else {
          let reason = record.reason ?? record.kept?.problem ?? record.outcome.rawValue
          throw LabError("the way out failed: \(reason)")
        }
        self.agents = agents
        return
      }
      throw LabError("the agent went away without a result")
    } catch {
      let failure = failure(error, agents)
      await end(agents)
      throw failure
    }
  }

  func move() async throws -> Move {
    let agents: Agents
    if let ready = self.agents { agents = ready } else { agents = try await startAgents() }
    let (source, destination) = (agents.source, agents.destination)
    do {
      let client = ControlClient(path: source.controlSocket)
      var request = request(destination)
      if let forecaster = session.options.forecaster {
        await observer.note("godwit-\(strategy): looking at guest and link for a forecast")
        var report = try await client.plan(request)
        report.earlier += session.options.pastForecasts
        request.forecast = try forecaster(report, request)
      }
      let startUs = MonotonicClock.nowUs
      let record = try await migrate(request, client)
      // The destination's QEMU is the agent's child and outlives it.
      let mark = session.file("destination.tty")
      let isLeftBehind = record.outcome != .completed ? try await isThere(mark) : false
      return Move(record: record, startUs: startUs, isLeftBehind: isLeftBehind) {
        await end(agents)
      }
    } catch {
      let failure = failure(error, agents)
      await end(agents)
      throw failure
    }
  }

  /// Both hosts have indexed the image long before the guest moves: that is no part of the migration.
  private func indexRootDisk() async throws {
    guard let image = session.rootDisk else { return }
    for side in HostPair.Side.allCases {
      try LabAgent.makeFolders(side, session)
      let folder = IndexFolder(stateDirectory: LabAgent.folder(side, session) + "/state")
      let outcomes = try await WorkerThread.run("lab-index") {
        try ImageIndexing(folder: folder, threads: CPUSet.processorCount).run(image)
      }
      for outcome in outcomes {
        await observer.note(
          "indexed \(ByteCount(outcome.heldBytes)) in \(Milliseconds.format(outcome.elapsedMs))")
      }
    }
  }

  /// Whether a process that names a file goes on; one that is about to end is given a moment.
  private func isThere(_ mark: String) async throws -> Bool {
    let startMs = MonotonicClock.nowMs
    while !Leftovers.processes(naming: mark).isEmpty {
      guard MonotonicClock.nowMs - startMs < Self.endingMs else { return true }
      try await Task.sleep(for: .milliseconds(50))
    }
    return false
  }

  /// The QEMU that an agent started for a guest that is to return; other experiments' have the same name.
  private var arrived: Int32? {
    returns ? Leftovers.processes(naming: session.file("source.tty")).first : nil
  }

  private func request(_ destination: LabAgent) -> MigrationRequest {
    let options = session.options
    var request = MigrationRequest(
      vm: arrived.map { "pid-\($0)" } ?? "qmp:\(session.source.monitorPath)",
      destination: "\(session.hosts.address(.destination)):\(destination.port)")
    request.strategy = strategy
    request.downtimeLimitMs = options.downtimeLimitMs
    request.pageSource = options.pageSource
    options.tuning.apply(to: &request)
    request.audit = options.audit
    // The lab ends its QEMUs itself, once it has looked at them.
    request.keepSource = true
    if session.hosts.kind == .loopback {
      request.bandwidthBytesPerSecond = session.hosts.linkBytesPerSecond
    }
    return request
  }

  private func migrate(
    _ request: MigrationRequest, _ client: ControlClient
  ) async throws -> MigrationRecord {
    let options = session.options
    let startMs = MonotonicClock.nowMs
    let limit = Task {
      try await Task.sleep(for: .milliseconds(options.timeoutMs))
      try await client.cancel(vm: request.vm)
    }
    defer { limit.cancel() }
    for try await update in client.migrate(request) {
      switch update {
      case .progress(let progress): await observer.progress(progress)
      case .finished(var record):
        // Called off by the lab alone, and only for its time.
        if record.outcome == .cancelled, MonotonicClock.nowMs - startMs >= options.timeoutMs {
          (record.outcome, record.reason) = (.failed, LabRun.notFinished(options))
        }
        return record
      }
    }
    throw LabError("the source's agent went away without a result")
  }
}
