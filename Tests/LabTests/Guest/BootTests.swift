import Agent
import Base
import HostIO
import Synchronization
import Testing

@testable import Lab

/// What the lab needs to boot a guest here; tests that need it are skipped with the reason.
enum LabEquipment {
  static let isThere =
    SmallFile.isReadable(CacheFolder().path + "/kernel/current/vmlinuz")
    && SmallFile.isExecutable("/usr/bin/qemu-system-x86_64")
    && SmallFile.isExecutable("/usr/bin/memcached")
  static let hasRedis = SmallFile.isExecutable("/usr/bin/redis-check-rdb")
}

/// Keeps what an experiment says.
final class Notes: LabObserver {
  private let texts = Mutex<[String]>([])
  private let looks = Mutex<[MigrationProgress]>([])

  func note(_ text: String) async { texts.withLock { $0.append(text) } }
  func progress(_ progress: MigrationProgress) async { looks.withLock { $0.append(progress) } }
  var all: [String] { texts.withLock { $0 } }
  var progress: [MigrationProgress] { looks.withLock { $0 } }
}

@Suite(
  .serialized,
  .enabled(
    if: LabEquipment.isThere,
    "skipped: no guest kernel, QEMU or memcached; run scripts/install-dependencies.sh"))
struct BootTests {
  private func options() -> LabOptions {
    var options = LabOptions()
    options.guest.memory = .mebibytes(320)
    options.guest.memcachedMiB = 32
    options.guest.workload.memoryMiB = 64
    options.guest.workload.hotMiB = 16
    options.warmUpMs = 500
    options.methods = [.qemu]
    return options
  }

  private func commandLine(_ options: LabOptions) async throws -> GuestCommandLine {
    let program = try await QEMUProgram.preferred(cache: CacheFolder())
    return GuestCommandLine(
      specification: options.guest,
      image: try await GuestImage.prepare(server: options.guest.server), source: program,
      destination: program)
  }

  @Test(arguments: GuestSpecification.Machine.allCases)
  func aGuestBootsBeatsAndChecksItsMemory(machine: GuestSpecification.Machine) async throws {
    var options = options()
    options.guest.machine = machine
    if machine == .q35 {
      // A mixed load, which beats say more of.
      options.guest.workload.kernel = .init(.is)
      options.guest.workload.disk = .init(sizeMiB: 4)
      options.guest.workload.disk?.computePages = 2
    }
    let runs: UInt64 = machine == .q35 ? 1 : 0
    if machine == .pc, LabEquipment.hasRedis {
      (options.guest.memcachedMiB, options.guest.redisMiB) = (nil, 32)
    }
    let folder = try await RunFolder.create()
    let hosts = try await HostPair.create(kind: .loopback, linkRate: nil, folder: folder)
    let session = try await GuestSession.start(
      options: options, commandLine: try await commandLine(options), hosts: hosts, folder: folder,
      label: "boot")
    let until = MonotonicClock.nowMs + 120_000
    while session.serial.look({
      ($0.last?.beat.verifiedScans ?? 0) < 2 || ($0.last?.beat.kernelRuns ?? 0) < runs
    }), MonotonicClock.nowMs < until {
      try await Task.sleep(for: .milliseconds(50))
    }
    await session.end()
    let log = session.serial.log
    folder.remove()
    let last = try #require(log.last)
    #expect(last.beat.verifiedScans >= 2)
    #expect(last.beat.dirtiedPages > 100)
    #expect(last.beat.kernelRuns >= runs && last.beat.work > 100)
    #expect(log.errors == 0 && log.sequenceBreaks == 0)
    #expect(log.entries.count > 20)
    #expect(!log.otherLines.contains { $0.hasPrefix("INIT cannot") }, "\(log.otherLines)")
    #expect(session.client?.report().wrongValues == 0)
  }

  @Test func qemuAloneMovesAGuest() async throws {
    let notes = Notes()
    let trials = Mutex<[Trial]>([])
    try await LabRun(options: options(), observer: notes).run { trial in
      trials.withLock { $0.append(trial) }
    }
    let trial = try #require(trials.withLock { $0 }.first)
    #expect(trial.damage.isEmpty, "\(trial.damage)")
    #expect(trial.record.outcome == .completed)
    #expect(try #require(trial.record.pages.raw) > 64 * 256)
    #expect(try #require(trial.record.totalMs) > 100)
    #expect(try #require(trial.heartbeatGapMs) < 10_000)
    #expect(try #require(trial.record.clientGapMs) >= 10)
    #expect(try #require(trial.record.wireBytes) > 64 * 256 * 4096)
    if await HostPair.whyNoNamespaces() == nil {
      #expect(trial.brokenConnections == 0)
    } else {
      #expect(notes.all.contains { $0.contains("loopback") })
    }
    #expect(notes.progress.contains { $0.phase == .bulk && $0.progressPermille > 0 })
  }
}
