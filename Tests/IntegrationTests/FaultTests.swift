import Agent
import Base
import Lab
import Synchronization
import Testing

/// The guest lives exactly once, whoever dies and whatever a host brings about. `godwit lab faults` does all faults
/// in all phases.
@Suite(.serialized, .needsEquipment)
struct FaultTests {
  @Test(.timeLimit(.minutes(20))) func whoeverDies() async throws {
    await twoAtATime(Self.deaths, Self.guestLivesOnce)
  }

  @Test(.timeLimit(.minutes(20))) func whateverHappens() async throws {
    await twoAtATime(Self.misfortunes, Self.guestLivesOnce)
  }

  private static let deaths = [
    FaultPlan(phase: .bulk, victim: .destinationAgent), FaultPlan(phase: .bulk, victim: .link),
    FaultPlan(phase: .switchover, victim: .destinationAgent),
    FaultPlan(phase: .prepare, victim: .sourceDisk),
    FaultPlan(phase: .switchover, victim: .sourceAgent),
    FaultPlan(phase: .prepare, victim: .destinationDisk),
    FaultPlan(phase: .commit, victim: .destinationAgent),
    FaultPlan(phase: .bulk, victim: .connections),
    FaultPlan(phase: .commit, victim: .destinationQEMU),
    FaultPlan(phase: .switchover, victim: .connections),
  ]

  /// Upgrades, disks, clocks, a link that is slow.
  private static let misfortunes = [
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
    FaultPlan(phase: .pull, victim: .link, lastsMs: 30_000),
  ]

  private static func guestLivesOnce(_ plan: FaultPlan) async throws {
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
    #expect(result.damage.isEmpty, "\(plan)")
    #expect(["source", "destination"].contains(result.guestAt), "\(plan)")
  }
}
