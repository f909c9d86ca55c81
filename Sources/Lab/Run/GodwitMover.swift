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

  func move() async throws -> Move {
    let source = try await LabAgent.start(.source, session: session)
    let destination: LabAgent
    do {
      destination = try await LabAgent.start(.destination, session: session)
    } catch {
      await source.end()
      throw error
    }
    do {
      let client = ControlClient(path: source.controlSocket)
      var request = request(destination)
      if let forecaster = session.options.forecaster {
        await observer.note("godwit-\(strategy): looking at guest and link for a forecast")
        request.forecast = try forecaster(try await client.plan(request), request)
      }
      let startUs = MonotonicClock.nowUs
      let record = try await migrate(request, client)
      // The destination's QEMU is the agent's child and outlives it.
      let mark = session.file("destination.tty")
      let isLeftBehind = record.outcome != .completed ? try await isThere(mark) : false
      return Move(record: record, startUs: startUs, isLeftBehind: isLeftBehind) {
        await source.end()
        await destination.end()
        Leftovers.endProcesses(naming: mark)
      }
    } catch {
      await source.end()
      await destination.end()
      Leftovers.endProcesses(naming: session.file("destination.tty"))
      throw LabError(
        "\(error); source agent: \(source.lastWords); destination agent: \(destination.lastWords)")
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

  private func request(_ destination: LabAgent) -> MigrationRequest {
    let options = session.options
    var request = MigrationRequest(
      vm: "qmp:\(session.source.monitorPath)",
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
