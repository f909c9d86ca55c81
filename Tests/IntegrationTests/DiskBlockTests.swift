import Agent
import Base
import Lab
import Synchronization
import Testing

/// A guest whose page cache is full of its root disk, which both hosts have indexed.
@Suite(
  .serialized,
  .enabled(
    if: Equipment.isThere,
    "skipped: needs root, GODWIT_BINARY and scripts/install-dependencies.sh (use `make test`)"))
struct DiskBlockTests {
  @Test(.timeLimit(.minutes(5))) func thePageCacheComesFromTheDisk() async throws {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.methods = [.strategy("hotpages")]
    options.tuning.compaction = .lz4
    options.guest.backend = .memfd
    options.guest.memory = .mebibytes(384)
    options.guest.rootDisk = .mebibytes(96)
    options.guest.memcachedMiB = 32
    options.guest.workload.memoryMiB = 48
    options.guest.workload.hotMiB = 16
    options.warmUpMs = 500
    let trials = Mutex<[Trial]>([])
    try await LabRun(options: options, observer: SilentObserver()).run { trial in
      trials.withLock { $0.append(trial) }
    }
    let trial = try #require(trials.withLock { $0.first })
    #expect(trial.damage.isEmpty)
    #expect(trial.record.outcome == .completed, "\(trial.record.reason ?? "")")
    #expect(trial.record.audit.pagesDiffering == 0)
    #expect((trial.record.audit.pagesCompared ?? 0) > 80_000)
    // 96 MiB are 24,576 pages; a few files end within a page, and a few pages are alike.
    #expect((trial.record.pages.disk ?? 0) > 20_000, "\(trial.record.pages)")
    #expect(trial.record.refetchedPages == 0)
  }
}
