import Agent
import Base
import Lab
import Synchronization
import Testing

/// Faults that a host brings about, not a death: upgrades, disks, clocks, a link that is slow. `godwit lab
/// faults` does all of them in all phases.
@Suite(
  .serialized,
  .enabled(
    if: Equipment.isThere,
    "skipped: needs root, GODWIT_BINARY and scripts/install-dependencies.sh (use `make test`)"))
struct FaultTests {
  @Test(
    .timeLimit(.minutes(5)),
    arguments: [
      FaultPlan(phase: .bulk, victim: .sourceDisk),
      FaultPlan(phase: .switchover, victim: .sourceJournal),
      FaultPlan(phase: .commit, victim: .destinationJournal),
      FaultPlan(phase: .bulk, victim: .slowPeer),
      FaultPlan(phase: .bulk, victim: .destinationClock, lastsMs: 500),
      FaultPlan(phase: .bulk, victim: .sourceAgentUpgraded, lastsMs: 300),
      FaultPlan(phase: .bulk, victim: .destinationAgentUpgraded, lastsMs: 60_000),
      FaultPlan(phase: .pull, victim: .sourceAgent),
      FaultPlan(phase: .pull, victim: .destinationAgent),
      FaultPlan(phase: .pull, victim: .link, lastsMs: 4000),
    ])
  func guestLivesOnce(plan: FaultPlan) async throws {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.guest.memory = .mebibytes(320)
    options.guest.workload.memoryMiB = 96
    options.guest.workload.hotMiB = 16
    options.guest.memcachedMiB = nil
    let results = Mutex<[FaultResult]>([])
    try await LabRun(options: options, observer: SilentObserver())
      .runFaults([plan], seed: 1) { result in results.withLock { $0.append(result) } }
    let result = try #require(results.withLock { $0.first })
    #expect(result.damage.isEmpty)
    #expect(["source", "destination"].contains(result.guestAt))
  }
}
