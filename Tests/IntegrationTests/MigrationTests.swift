import Agent
import Base
import Foundation
import Lab
import Synchronization
import Testing

final class SilentObserver: LabObserver {
  func note(_ text: String) async {}
  func progress(_ progress: MigrationProgress) async {}
}

/// Real guests, moved by two real agents; the lab looks at them from inside and outside.
@Suite(.serialized, .needsEquipment)
struct MigrationTests {
  private func options(_ backend: GuestSpecification.Backend) -> LabOptions {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.methods = [.godwit]
    options.guest.backend = backend
    options.guest.memory = .mebibytes(320)
    options.guest.memcachedMiB = 32
    options.guest.workload.memoryMiB = 96
    options.guest.workload.hotMiB = 16
    options.warmUpMs = 500
    return options
  }

  private func trial(_ options: LabOptions) async throws -> Trial {
    let trials = Mutex<[Trial]>([])
    try await LabRun(options: options, observer: SilentObserver()).run { trial in
      trials.withLock { $0.append(trial) }
    }
    return try #require(trials.withLock { $0.first })
  }

  private func expectIntact(_ trial: Trial, pageSource: String) {
    #expect(trial.damage.isEmpty)
    #expect(trial.record.outcome == .completed, "\(trial.record.reason ?? "")")
    #expect(trial.record.pageSource == pageSource)
    #expect(trial.record.audit.pagesDiffering == 0)
    #expect((trial.record.audit.pagesCompared ?? 0) > 80_000)
    // Of an older QEMU's ROMs that are switched off nobody can say where they lie.
    #expect((trial.record.audit.pagesUncovered ?? .max) < 1024)
    #expect(trial.brokenConnections == 0)
    #expect((trial.scansAfter ?? 0) > 0)
  }

  /// A guest that writes faster than a slow link carries: pre-copy would not end.
  @Test(
    .timeLimit(.minutes(5)),
    arguments: ["hotpages", "adaptive", "timebound", "dsm", "auto", "halving"])
  func strategiesEndAndLoseNothing(strategy: String) async throws {
    var options = options(.memfd)
    // The one of Examples/, which another program has.
    if strategy == "halving" { options.godwitProgram = Equipment.program.map { $0 + "-halving" } }
    options.methods = [.strategy(strategy)]
    options.guest.workload.dirtyMiBPerSecond = 60
    options.guest.workload.hotMiB = 48
    options.linkRate = ByteRate(parsing: "400Mbit")
    let trial = try await trial(options)
    // Where a pull may follow, the destination's QEMU alone writes its memory.
    let mayPull = ["dsm", "auto"].contains(strategy)
    expectIntact(trial, pageSource: mayPull ? "shared to inline" : "shared")
    let record = trial.record
    #expect(record.strategy == strategy)
    #expect(record.stopReason != nil)
    #expect(record.forecast.downtimeMs != nil)
    if strategy == "dsm" {
      let pull = try #require(record.pull)
      #expect((pull.owedPages ?? 0) > 0 && pull.placedPages == pull.owedPages)
      #expect((pull.wireBytes ?? 0) > 0 && pull.packedPages != nil, "\(pull)")
      #expect(record.stopSetPages == 0)
    } else if record.pull == nil {
      #expect((record.stopSetPages ?? 0) > 0)
    }
    // Versions that were replaced before their turn never crossed the network.
    #expect((record.supersededPages ?? 0) > 0)
  }

  /// A guest that stays where it is, and why: nothing was stopped, nothing is left behind.
  private func refusal(_ options: LabOptions) async throws -> String {
    let record = try await trial(options).record
    #expect(record.outcome == .refused)
    #expect(record.isGuestSafe != false)
    return record.reason ?? ""
  }

  @Test(.timeLimit(.minutes(5))) func timeThatCannotBeKeptIsRefused() async throws {
    var options = options(.memfd)
    options.methods = [.strategy("timebound")]
    options.tuning.withinMs = 1500
    options.linkRate = ByteRate(parsing: "200Mbit")
    let reason = try await refusal(options)
    #expect(reason.contains("--within"), "\(reason)")
  }

  /// Before 8.1 the closed gate holds QEMU, and a guest that writes is not stopped before its time.
  @Test(.timeLimit(.minutes(5)), arguments: ["hotpages", "dsm"])
  func oldQEMUIsHeldByItsStream(strategy: String) async throws {
    var options = options(.memfd)
    options.methods = [.strategy(strategy)]
    options.sourceQEMU = Equipment.qemu72
    options.guest.memory = .kibibytes(320 * 1024 + 64)
    options.guest.workload.dirtyMiBPerSecond = 60
    options.guest.workload.hotMiB = 48
    options.linkRate = ByteRate(parsing: "400Mbit")
    let trial = try await trial(options)
    expectIntact(trial, pageSource: strategy == "dsm" ? "shared to inline" : "shared")
    #expect(trial.record.stopReason != nil)
    #expect((trial.record.pull != nil) == (strategy == "dsm"))
  }

  @Test(.timeLimit(.minutes(5))) func throughTheStream() async throws {
    var options = options(.none)
    options.pageSource = .inline
    expectIntact(try await trial(options), pageSource: "inline")
  }

  @Test(.timeLimit(.minutes(5))) func throughSharedMemory() async throws {
    expectIntact(try await trial(options(.memfd)), pageSource: "shared")
  }

  /// The oldest QEMU to the newest one here, with a RAM size that its TCG does not lose pages of.
  @Test(.timeLimit(.minutes(5))) func fromOldToNew() async throws {
    var options = options(.none)
    options.sourceQEMU = Equipment.qemu72
    options.guest.memory = .kibibytes(320 * 1024 + 64)
    let trial = try await trial(options)
    expectIntact(trial, pageSource: "process to inline")
    #expect(trial.record.qemu.source?.hasPrefix("7.2") == true)
  }
}
