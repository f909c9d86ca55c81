import Agent
import Base
import HostIO

/// Moves the guest through two of Godwit's agents, one on each host.
struct GodwitMover: Mover {
  let strategy: String
  let session: GuestSession
  let agents: AgentPair
  let observer: any LabObserver

  /// Whether the guest was at the destination before, and comes back.
  private var returns: Bool { session.home == .destination }

  var sourceProcess: Int32? { returns ? arrived : session.source.process.pid }

  /// The guest leaves the host that it is to return to, and its memory is kept there.
  func prepare() async throws {
    guard returns else { return }
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
        return
      }
      throw LabError("the agent went away without a result")
    } catch {
      throw agents.failure(error)
    }
  }

  func forecast() async throws -> MigrationRecord.Forecast? {
    guard let forecaster = session.options.forecaster else { return nil }
    do {
      let request = request(agents.destination)
      await observer.note("godwit-\(strategy): looking at guest and link for a forecast")
      var report = try await ControlClient(path: agents.source.controlSocket).plan(request)
      report.earlier += session.options.pastForecasts
      report.earlierKnown = (report.earlierKnown ?? []) + session.options.pastKnownMoves
      return try forecaster(report, request)
    } catch {
      throw agents.failure(error)
    }
  }

  func move(_ forecast: MigrationRecord.Forecast?) async throws -> Move {
    do {
      let client = ControlClient(path: agents.source.controlSocket)
      var request = request(agents.destination)
      request.forecast = forecast
      let startUs = MonotonicClock.nowUs
      let record = try await migrate(request, client)
      // The destination's QEMU is the agent's child and outlives it.
      let mark = session.file("destination.tty")
      let isDone = record.outcome == .completed
      return Move(
        record: record, startUs: startUs,
        destinationProcess: isDone ? Leftovers.processes(naming: mark).first : nil,
        isLeftBehind: isDone ? false : try await isThere(mark))
    } catch {
      throw agents.failure(error)
    }
  }

  /// Whether a process that names a file goes on; one that is about to end is given a moment.
  private func isThere(_ mark: String) async throws -> Bool {
    let startMs = MonotonicClock.nowMs
    while !Leftovers.processes(naming: mark).isEmpty {
      guard MonotonicClock.nowMs - startMs < AgentPair.endingMs else { return true }
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
    request.disks = session.diskWishes
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
