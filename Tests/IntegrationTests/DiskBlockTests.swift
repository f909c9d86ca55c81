import Agent
import Base
import Lab
import Strategy
import Synchronization
import Testing

/// A guest whose page cache is full of its root disk, which both hosts have indexed, or which moves with it.
@Suite(.serialized, .needsEquipment)
struct DiskBlockTests {
  private func options(_ strategy: String) -> LabOptions {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.methods = [.strategy(strategy)]
    options.tuning.compaction = .lz4
    options.guest.backend = .memfd
    options.guest.memory = .mebibytes(384)
    options.guest.rootDisk = .mebibytes(96)
    options.guest.memcachedMiB = 32
    options.guest.workload.memoryMiB = 48
    options.guest.workload.hotMiB = 16
    options.warmUpMs = 500
    return options
  }

  private func move(_ options: LabOptions) async throws -> MigrationRecord {
    let trials = Mutex<[Trial]>([])
    try await LabRun(options: options, observer: SilentObserver()).run { trial in
      trials.withLock { $0.append(trial) }
    }
    let trial = try #require(trials.withLock { $0.first })
    #expect(trial.damage.isEmpty)
    #expect(trial.record.outcome == .completed, "\(trial.record.reason ?? "")")
    #expect(trial.record.audit.pagesDiffering == 0)
    #expect((trial.record.audit.pagesCompared ?? 0) > 80_000)
    return trial.record
  }

  /// A forecast knows of it.
  @Test(.timeLimit(.minutes(5))) func thePageCacheComesFromTheDisk() async throws {
    let known = Mutex<GuestSample.Known?>(nil)
    var options = options("hotpages")
    options.forecaster = { report, _ in
      known.withLock { $0 = report.guest?.known }
      return nil
    }
    let record = try await move(options)
    // 96 MiB are 24,576 pages; a few files end within a page, and a few pages are alike.
    #expect((record.pages.disk ?? 0) > 20_000, "\(record.pages)")
    #expect(record.refetchedPages == 0)
    let foretold = try #require(known.withLock { $0 })
    // Some thousand of the guest's pages were looked at.
    #expect((15_000...30_000).contains(foretold.disk.pages), "\(foretold)")
    #expect(foretold.snapshot.pages == 0 && foretold.vault.pages == 0)
  }

  /// Nobody has indexed anything: the disk moves with the guest, and its page cache refers to the copy.
  @Test(.timeLimit(.minutes(5))) func thePageCacheComesFromTheCopy() async throws {
    var options = options("hotpages")
    options.movesRootDisk = true
    let record = try await move(options)
    #expect((record.disk.wireBytes ?? 0) > 90 << 20, "\(record.disk)")
    #expect((record.pages.disk ?? 0) > 20_000, "\(record.pages)")
    #expect((record.refetchedPages ?? 0) < 100)
  }

  /// The guest runs at the destination before most of its memory has come, and reads its page cache there.
  @Test(.timeLimit(.minutes(5))) func whatIsMissingComesFromTheDisk() async throws {
    var options = options("dsm")
    options.linkRate = ByteRate(parsing: "100Mbit")
    options.tuning.withinMs = 3000
    options.tuning.atDeadline = .postcopy
    let record = try await move(options)
    let pull = try #require(record.pull)
    #expect(pull.placedPages == pull.owedPages, "\(pull)")
    #expect((pull.diskPages ?? 0) > 1000 && pull.snapshotPages == 0, "\(pull)")
    #expect((record.pages.disk ?? 0) >= (pull.diskPages ?? 0), "\(record.pages)")
  }
}
