import Agent
import Base
import Lab
import Synchronization
import Testing

/// Guests that write to their disk, which moves with them: whatever they read there must be what they wrote last.
@Suite(.serialized, .needsEquipment)
struct MovingDiskTests {
  private var options: LabOptions {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.movesDisk = true
    options.guest.memory = .kibibytes(224 * 1024 + 64)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 32
    options.guest.workload.hotMiB = 8
    options.guest.workload.dirtyMiBPerSecond = 2
    options.guest.workload.verifyMiBPerSecond = nil
    var load = GuestSpecification.DiskLoad(sizeMiB: 24)
    load.operationsPerSecond = 200
    options.guest.workload.disk = load
    options.warmUpMs = 500
    return options
  }

  /// Both at once: each waits for its own guest most of the time.
  @Test(.timeLimit(.minutes(5))) func theDiskArrivesWhole() async throws {
    async let newest: Void = diskArrives(nil, "dsm")
    async let oldest: Void = diskArrives(Equipment.qemu72, "hotpages")
    _ = try await (newest, oldest)
  }

  private func diskArrives(_ qemu: String?, _ strategy: String) async throws {
    var options = options
    (options.sourceQEMU, options.destinationQEMU) = (qemu, qemu)
    options.methods = [.strategy(strategy)]
    let trials = Mutex<[Trial]>([])
    try await LabRun(options: options, observer: SilentObserver()).run { trial in
      trials.withLock { $0.append(trial) }
    }
    let trial = try #require(trials.withLock { $0.first })
    #expect(trial.damage.isEmpty)
    #expect(trial.record.outcome == .completed, "\(trial.record.reason ?? "")")
    #expect(trial.record.audit.pagesDiffering == 0)
    #expect(trial.record.disk.movedBytes == 64 << 20)
    // Of the file system, the guest's file at least was copied.
    #expect((trial.record.disk.wireBytes ?? 0) > 24 << 20)
    #expect(trial.record.disk.pauseMs != nil)
    #expect(trial.samples.contains { $0.phase == .disks })
  }

  @Test(.timeLimit(.minutes(5))) func guestAndDiskLiveOnce() async throws {
    let plan = FaultPlan(phase: .disks, victim: .destinationAgent)
    let results = Mutex<[FaultResult]>([])
    try await LabRun(options: options, observer: SilentObserver())
      .runFaults([plan], seed: 1) { result in results.withLock { $0.append(result) } }
    let result = try #require(results.withLock { $0.first })
    #expect(result.damage.isEmpty)
    #expect(["source", "destination"].contains(result.guestAt))
  }
}
