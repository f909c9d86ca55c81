import Agent
import Base
import Glibc
import HostIO
import QMP
import Strategy

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

  /// The agents of both hosts.
  struct Agents: Sendable {
    var source, destination: LabAgent
    var both: [LabAgent] { [source, destination] }

    subscript(_ side: HostPair.Side) -> LabAgent {
      get { side == .source ? source : destination }
      set { if side == .source { source = newValue } else { destination = newValue } }
    }
  }

  /// In the arguments of the destination's QEMU, and of no other.
  var mark: String { session.file("destination.tty") }

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
    let drainMs = plan.victim.isUpgraded ? plan.lastsMs : 0
    var agents = Agents(
      source: try await LabAgent.start(
        .source, session: session, environment: environment(.source), drainMs: drainMs),
      destination: try await LabAgent.start(
        .destination, session: session, environment: environment(.destination), drainMs: drainMs))
    let outcome = Task { [agents] in await migrate(agents) }
    do { try await waitForPhase(agents.source) } catch {
      outcome.cancel()
      throw error
    }
    try await strike(agents)
    let brokenAtMs = MonotonicClock.nowMs
    try await replace(&agents)
    let ended = await outcome.value
    (result.outcome, result.retries) = (ended?.outcome, ended?.retries)
    for disk in disks { try await disk.free() }
    await settle(&result, sinceMs: brokenAtMs)
    result.agentPeakBytes = agents.both.compactMap(\.peakBytes).max()
    for agent in agents.both { await agent.end() }
    Leftovers.endProcesses(naming: mark)
    if !result.isGood {
      result.damage.append("source agent: \(agents.source.lastWords)")
      result.damage.append("destination agent: \(agents.destination.lastWords)")
    }
    return result
  }

  /// What an agent is told for fault injection.
  private func environment(_ side: HostPair.Side) -> [String: String] {
    [
      "GODWIT_HOLD_PHASE": "\(plan.phase.rawValue)=\(Self.holdMs)ms",
      ClockStep.variable: clockFile(side),
    ]
  }

  /// Moves the guest; the outcome and its reason, or nil when the agent died under it.
  private func migrate(_ agents: Agents) async -> (outcome: String, retries: UInt64?)? {
    var request = MigrationRequest(
      vm: "qmp:\(session.source.monitorPath)",
      destination: "\(session.hosts.address(.destination)):\(agents.destination.port)")
    request.pageSource = session.options.pageSource
    request.strategy = plan.strategy.rawValue
    request.networkPatienceMs = Self.networkPatienceMs
    request.disks = session.diskWishes
    do {
      for try await update in ControlClient(path: agents.source.controlSocket).migrate(request) {
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
}
