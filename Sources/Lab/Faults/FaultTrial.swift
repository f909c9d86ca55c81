import Agent
import Base
import Glibc
import HostIO
import QMP

/// One migration in which something breaks, and the look at what became of the guest.
struct FaultTrial: Sendable {
  /// How long each agent stays at the start of the phase, so that the kill lands in it.
  static let holdMs: UInt64 = 600
  /// A killed agent is down for this long.
  static let restartMs: UInt64 = 300
  static let settleTimeoutMs: UInt64 = 60_000
  /// The guest's place must not change for this long before it counts.
  static let steadyMs: UInt64 = 2000

  let plan: FaultPlan
  let killAfterMs: UInt64
  let session: GuestSession
  let observer: any LabObserver

  private var mark: String { session.file("destination.tty") }

  /// How long a migration of a trial looks for a lost peer.
  static let networkPatienceMs: UInt64 = 6000

  func run() async throws -> FaultResult {
    let disks = try await mountDisks()
    let result: Result<FaultResult, any Error>
    do { result = .success(try await observe(disks)) } catch { result = .failure(error) }
    for disk in disks { await disk.unmount() }
    return try result.get()
  }

  private func observe(_ disks: [SmallDisk]) async throws -> FaultResult {
    var result = FaultResult(plan: plan, killedAfterMs: killAfterMs)
    let hold = ["GODWIT_HOLD_PHASE": "\(plan.phase.rawValue)=\(Self.holdMs)ms"]
    var source = try await LabAgent.start(.source, session: session, environment: hold)
    var destination = try await LabAgent.start(.destination, session: session, environment: hold)
    let outcome = Task { [source, destination] in await migrate(source, destination) }
    do { try await waitForPhase(source) } catch {
      outcome.cancel()
      throw error
    }
    try await strike(source, destination)
    let brokenAtMs = MonotonicClock.nowMs
    if plan.victim.isAgent {
      try await Task.sleep(for: .milliseconds(Self.restartMs))
      if plan.victim == .sourceAgent {
        source = try await LabAgent.start(.source, session: session)
      } else {
        destination = try await LabAgent.start(.destination, session: session)
      }
    }
    let ended = await outcome.value
    (result.outcome, result.retries) = (ended?.outcome, ended?.retries)
    for disk in disks { try await disk.free() }
    await settle(&result, sinceMs: brokenAtMs)
    result.agentPeakBytes = [source, destination].compactMap(\.peakBytes).max()
    await source.end()
    await destination.end()
    Leftovers.endProcesses(naming: mark)
    if !result.isGood {
      result.damage.append("source agent: \(source.lastWords)")
      result.damage.append("destination agent: \(destination.lastWords)")
    }
    return result
  }

  /// Moves the guest; the outcome and its reason, or nil when the agent died under it.
  private func migrate(
    _ source: LabAgent, _ destination: LabAgent
  ) async -> (outcome: String, retries: UInt64?)? {
    var request = MigrationRequest(
      vm: "qmp:\(session.source.monitorPath)",
      destination: "\(session.hosts.address(.destination)):\(destination.port)")
    request.pageSource = session.options.pageSource
    request.networkPatienceMs = Self.networkPatienceMs
    do {
      for try await update in ControlClient(path: source.controlSocket).migrate(request) {
        switch update {
        case .progress(let progress): await observer.progress(progress)
        case .finished(let record):
          let reason = record.reason.map { ": \($0)" } ?? ""
          return (record.outcome.rawValue + reason, record.retries)
        }
      }
    } catch {}
    return nil
  }

  /// Waits for the phase, then for the moment in it.
  private func waitForPhase(_ source: LabAgent) async throws {
    let client = ControlClient(path: source.controlSocket)
    let startMs = MonotonicClock.nowMs
    while true {
      guard MonotonicClock.nowMs - startMs < Self.settleTimeoutMs else {
        throw LabError("phase \(plan.phase.rawValue) was not reached; \(source.lastWords)")
      }
      let running = try? await client.status()
      if let phase = running?.first?.phase, phase >= plan.phase { break }
      try await Task.sleep(for: .milliseconds(5))
    }
    try await Task.sleep(for: .milliseconds(killAfterMs))
  }

  /// Breaks what is to be broken; returns when it is whole again, or dead for good.
  private func strike(_ source: LabAgent, _ destination: LabAgent) async throws {
    switch plan.victim {
    case .sourceAgent: source.process.send(signal: SIGKILL)
    case .destinationAgent: destination.process.send(signal: SIGKILL)
    case .sourceQEMU: session.source.process.send(signal: SIGKILL)
    case .destinationQEMU:
      // In `prepare` it may not have been started yet.
      let startMs = MonotonicClock.nowMs
      while Leftovers.processes(naming: mark).isEmpty, MonotonicClock.nowMs - startMs < 3000 {
        try await Task.sleep(for: .milliseconds(5))
      }
      for pid in Leftovers.processes(naming: mark) { _ = Glibc.kill(pid, SIGKILL) }
    case .sourceAgentFrozen, .destinationAgentFrozen:
      let agent = plan.victim == .sourceAgentFrozen ? source : destination
      agent.process.send(signal: SIGSTOP)
      try await Task.sleep(for: .milliseconds(plan.lastsMs))
      agent.process.send(signal: SIGCONT)
    case .link:
      try await session.hosts.setLink(up: false)
      try? await Task.sleep(for: .milliseconds(plan.lastsMs))
      try await session.hosts.setLink(up: true)
    case .connections: try await session.hosts.resetConnections()
    case .sourceDisk, .destinationDisk: for disk in fullDisks { try await disk.fill() }
    }
  }

  /// The disks that will be full, each on a side's state folder.
  private var fullDisks: [SmallDisk] {
    switch plan.victim {
    case .sourceDisk: [SmallDisk(path: LabAgent.folder(.source, session) + "/state")]
    case .destinationDisk: [SmallDisk(path: LabAgent.folder(.destination, session) + "/state")]
    default: []
    }
  }

  private func mountDisks() async throws -> [SmallDisk] {
    for disk in fullDisks {
      try LabAgent.makeFolders(plan.victim == .sourceDisk ? .source : .destination, session)
      try await disk.mount()
    }
    return fullDisks
  }

  /// Waits until the guest's place is steady and as it must be; notes what is wrong otherwise.
  private func settle(_ result: inout FaultResult, sinceMs: UInt64) async {
    let deadlineMs = MonotonicClock.nowMs + Self.settleTimeoutMs + Self.networkPatienceMs * 2
    var steady: (place: String, sinceMs: UInt64)?
    var problems = ["it never became steady"]
    while MonotonicClock.nowMs < deadlineMs {
      let nowMs = MonotonicClock.nowMs
      let place = beatsAt()
      result.guestAt = place
      if place == "both" { break }
      if steady?.place != place { steady = (place, nowMs) }
      if let steady, nowMs - steady.sinceMs >= Self.steadyMs {
        problems = await faults(place, result.outcome)
        if problems.isEmpty {
          result.settledMs = steady.sinceMs > sinceMs ? steady.sinceMs - sinceMs : 0
          break
        }
      }
      try? await Task.sleep(for: .milliseconds(50))
    }
    if result.guestAt == "both" { problems = ["two guests run"] }
    let log = session.serial.log
    if log.errors > 0 { problems.append("\(log.errors) errors in the guest's memory") }
    if let first = log.entries.firstIndex(where: { $0.side == .destination }),
      log.entries[first...].contains(where: { $0.side == .source })
    {
      problems.append("the guest ran at the source after it had run at the destination")
    }
    result.damage = problems
  }

  /// Where heartbeats came from in the last moment.
  private func beatsAt() -> String {
    let recentUs = MonotonicClock.nowUs - 700_000
    let (source, destination) = session.serial.look { log in
      let recent = log.entries.suffix(200).filter { $0.atUs > recentUs }
      return (
        recent.contains { $0.side == .source }, recent.contains { $0.side == .destination }
      )
    }
    switch (source, destination) {
    case (true, true):
      // Both within the window is the hand-over itself, unless the source beats after it.
      let last = session.serial.look { $0.last?.side }
      return last == .destination ? "destination" : "both"
    case (true, false): return "source"
    case (false, true): return "destination"
    case (false, false): return "nowhere"
    }
  }

  /// What is not as it must be with the guest at `place`.
  private func faults(_ place: String, _ outcome: String?) async -> [String] {
    let isQEMUHere = session.source.isAlive
    let isQEMUThere = !Leftovers.processes(naming: mark).isEmpty
    if plan.mustComplete(patienceMs: Self.networkPatienceMs), place != "destination" {
      return ["it should have arrived (\(outcome ?? "no outcome"))"]
    }
    switch place {
    case "source":
      var problems: [String] = []
      if isQEMUThere { problems.append("a QEMU is left behind at the destination") }
      if let problem = await settingsProblem() { problems.append(problem) }
      return problems
    case "destination":
      guard isQEMUHere else { return [] }
      return ["the source's QEMU is still there"]
    default:
      let isExpected =
        switch plan.victim {
        case .sourceQEMU: true
        // Once the guest runs there, killing its QEMU is killing the guest.
        case .destinationQEMU: outcome?.hasPrefix("completed") == true
        default: false
        }
      if !isExpected { return ["the guest is gone (\(outcome ?? "no outcome"))"] }
      if plan.victim == .sourceQEMU, isQEMUThere {
        return ["a QEMU is left behind at the destination"]
      }
      if plan.victim == .sourceQEMU, outcome?.hasPrefix("completed") == true {
        return ["the record says completed, and the guest is gone"]
      }
      return []
    }
  }

  /// Whether QEMU's migration settings at the source are as they were.
  private func settingsProblem() async -> String? {
    do {
      let monitor = try await Monitor.connect(path: session.source.monitorPath, timeoutMs: 1000)
      let enabled = try await monitor.client.queryMigrateCapabilities().enabled
      await monitor.close()
      return enabled.isEmpty
        ? nil : "capabilities left on at the source: \(enabled.joined(separator: ", "))"
    } catch {
      return "the source's monitor does not answer: \(error)"
    }
  }
}
