import Agent
import Base
import Synchronization
import Testing

@testable import Lab

/// Each rival moves a small guest: settings that QEMU refuses would make Godwit look good.
@Suite(
  .serialized,
  .enabled(
    if: LabEquipment.isThere,
    "skipped: no guest kernel, QEMU or memcached; run scripts/install-dependencies.sh"))
struct RivalTests {
  private func trials(_ adjust: (inout LabOptions) -> Void) async throws -> [Trial] {
    var options = LabOptions()
    options.guest.memory = .mebibytes(256)
    options.guest.memcachedMiB = nil
    options.guest.hasDisk = false
    options.guest.workload.memoryMiB = 64
    options.guest.workload.hotMiB = 16
    options.guest.workload.verifyMiBPerSecond = nil
    options.warmUpMs = 500
    adjust(&options)
    let trials = Mutex<[Trial]>([])
    try await LabRun(options: options, observer: Notes()).run { trial in
      trials.withLock { $0.append(trial) }
    }
    return trials.withLock { $0 }
  }

  /// As an operator does it: the disk is mirrored to an export of the destination's QEMU, then the memory moves; the
  /// guest writes faster than the link carries, so that some of that follows it.
  @Test func theGuestsDiskMovesToo() async throws {
    let trials = try await trials { options in
      options.methods = [.rival(.postcopy)]
      options.guest.hasDisk = true
      options.movesDisk = true
      options.linkRate = ByteRate(bytesPerSecond: 40_000_000)
      options.guest.workload.hotMiB = 48
      options.guest.workload.dirtyMiBPerSecond = 160
      options.guest.workload.compressPercent = 0
      var load = GuestSpecification.DiskLoad(sizeMiB: 16)
      load.operationsPerSecond = 100
      options.guest.workload.disk = load
    }
    let trial = try #require(trials.first)
    #expect(trial.damage.isEmpty, "\(trial.damage)")
    #expect(trial.record.outcome == .completed, "\(trial.record.reason ?? "")")
    #expect(trial.record.disk.movedBytes == 64 << 20)
    #expect(try #require(trial.record.disk.bytesReadAtSource) > 16 << 20)
    let pause = try #require(trial.record.disk.pauseMs)
    #expect(try #require(trial.record.downtimeMs) >= pause)
    // Pages that went before and after the flip are told apart.
    let pull = try #require(trial.record.pull)
    #expect((1..<65_536).contains(try #require(pull.placedPages)) && pull.faultPages != nil)
  }

  @Test func everyRivalMovesAGuest() async throws {
    let trials = try await trials { $0.methods = Rival.allCases.map { LabMethod.rival($0) } }
    #expect(trials.map(\.record.strategy) == Rival.allCases.map(\.rawValue))
    for trial in trials {
      #expect(trial.damage.isEmpty, "\(trial.damage)")
      #expect(trial.record.outcome == .completed, "\(trial.record.reason ?? "")")
      #expect(trial.record.method == "qemu")
      #expect(try #require(trial.record.wireBytes) > 1 << 20)
      #expect(try #require(trial.throughput).baselinePerSecond > 0)
      #expect(try #require(trial.throughput).timeline.reduce(0, +) > 0)
    }
    // On a quick link all may have gone before the flip; no other way has one.
    #expect(!trials.contains { $0.record.pull != nil && $0.record.strategy != "postcopy" })
    // What compresses by half does not cross the link whole.
    let plain = try #require(trials.first?.record.wireBytes)
    let compressed = try #require(trials.first { $0.record.strategy == "multifd-zstd" })
    #expect(try #require(compressed.record.wireBytes) < plain * 8 / 10)
    #expect(compressed.record.pages.compressed != nil && compressed.record.pages.raw == nil)
  }

  /// The guest writes faster than the link carries: that is a result, and the guest lives on.
  @Test func notDoneInTimeHasFailedAndTheGuestStays() async throws {
    let trials = try await trials {
      $0.methods = [.qemu]
      // So slow that no machine's guest is slower; the first pass ends in time all the same.
      $0.linkRate = ByteRate(bytesPerSecond: 20_000_000)
      $0.guest.workload.hotMiB = 48
      $0.guest.workload.dirtyMiBPerSecond = 160
      // A slow machine's processor is for writing, too.
      $0.guest.workload.verifyMiBPerSecond = 60
      $0.guest.workload.compressPercent = 0
      $0.timeoutMs = 12_000
    }
    let trial = try #require(trials.first)
    #expect(trial.record.outcome == .failed)
    #expect(trial.record.reason == "not finished after 12 s")
    #expect(trial.record.isGuestSafe == true)
    #expect(trial.damage.isEmpty, "\(trial.damage)")
    #expect(trial.isGood)
    #expect(trial.throughput?.recoveryMs == nil)
    #expect(trial.samples.contains { $0.phase == .iterate })
  }
}
