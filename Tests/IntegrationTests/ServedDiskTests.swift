import Agent
import Base
import HostIO
import Synchronization
import Testing

@testable import Lab

/// Guests whose disk is behind Godwit's server and moves with them while they write to it: each then reads all of its
/// file at the destination, and every page of it must be what it wrote last.
@Suite(.serialized, .needsEquipment)
struct ServedDiskTests {
  private static let cases: [(qemu: String?, method: DiskWishes.Method)] = [
    (nil, .iofollow), (Equipment.qemu72, .waio),
  ]

  private static func options(_ qemu: String?, _ method: DiskWishes.Method) -> LabOptions {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    (options.movesDisk, options.servesDisk) = (true, true)
    (options.sourceQEMU, options.destinationQEMU) = (qemu, qemu)
    options.methods = [.strategy("precopy")]
    options.tuning.diskMethod = method
    options.guest.memory = .kibibytes(224 * 1024 + 64)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 32
    options.guest.workload.hotMiB = 8
    options.guest.workload.dirtyMiBPerSecond = 2
    options.guest.workload.verifyMiBPerSecond = nil
    var load = GuestSpecification.DiskLoad(sizeMiB: 16)
    (load.blockKiB, load.operationsPerSecond, load.isScanned) = (32, 300, true)
    options.guest.workload.disk = load
    options.warmUpMs = 500
    return options
  }

  /// Both at once: each waits for its own guest most of the time.
  @Test(.timeLimit(.minutes(5))) func theDiskArrivesWhole() async {
    await twoAtATime(Self.cases) { try await Self.diskArrives($0.qemu, $0.method) }
  }

  private static func diskArrives(_ qemu: String?, _ method: DiskWishes.Method) async throws {
    let trials = Mutex<[Trial]>([])
    try await LabRun(options: options(qemu, method), observer: SilentObserver()).run { trial in
      trials.withLock { $0.append(trial) }
    }
    let trial = try #require(trials.withLock { $0.first })
    #expect(trial.damage.isEmpty, "\(method): \(trial.damage)")
    #expect(trial.record.outcome == .completed, "\(method): \(trial.record.reason ?? "")")
    #expect(trial.record.audit.pagesDiffering == 0)
    #expect(trial.record.disk.movedBytes == 64 << 20)
    #expect((trial.record.disk.wireBytes ?? 0) > 16 << 20)
    // QEMU's own copies don't know that.
    #expect(trial.record.disk.bytesReadAtSource != nil)
  }

  /// The server is killed in the middle of the move and started again, as a supervisor does: the guest misses nothing,
  /// and the next migration takes it all.
  @Test(.timeLimit(.minutes(5))) func itsServerDies() async {
    await twoAtATime(Self.cases) { try await Self.serverDies($0.qemu, $0.method) }
  }

  private static func serverDies(_ qemu: String?, _ method: DiskWishes.Method) async throws {
    let options = options(qemu, method)
    try await LabRun(options: options, observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let session = try await GuestSession.start(
        options: options, commandLine: commandLine, hosts: hosts, folder: folder, label: "s")
      let server = try #require(session.server)
      let agents = try await AgentPair.start([session], observer: SilentObserver())
      let client = ControlClient(path: agents.source.controlSocket)
      var request = MigrationRequest(
        vm: "qmp:\(session.source.monitorPath)",
        destination: "\(hosts.address(.destination)):\(agents.destination.port)")
      (request.disks, request.audit, request.keepSource) = (session.diskWishes, true, true)
      var slowly = request
      slowly.bandwidthBytesPerSecond = 4 << 20
      let first = Task { [slowly] in try await migrate(client, slowly) }
      while try await client.status().first.map({ $0.phase < .disks || $0.wireBytes < 4 << 20 })
        ?? true
      {
        try await Task.sleep(for: .milliseconds(10))
      }
      await server.kill()
      try await Task.sleep(for: .milliseconds(200))
      try await server.start()
      let record = try await first.value
      #expect(record.outcome == .failed && record.isGuestSafe != false, "\(record.reason ?? "")")
      let last = try await migrate(client, request)
      try #require(last.outcome == .completed, "\(method): \(last.reason ?? "")")
      #expect(last.audit.pagesDiffering == 0)
      try await scanned(session, from: agents)
      let log = session.serial.log
      #expect(log.errors == 0, "\(method): \(log.otherLines)")
      #expect(log.sequenceBreaks == 0, "\(log.firstBreak ?? "")")
      await agents.end()
      await session.end()
    }
  }

  private static func migrate(
    _ client: ControlClient, _ request: MigrationRequest
  ) async throws -> MigrationRecord {
    for try await update in client.migrate(request) {
      if case .finished(let record) = update { return record }
    }
    throw LabError("the agent went away without a result")
  }

  /// Waits until the guest has read all of its file at the destination; the first scan had begun before.
  private static func scanned(_ session: GuestSession, from agents: AgentPair) async throws {
    func scans() -> UInt64 {
      session.serial.look { log in
        log.last.map { $0.side == .destination ? $0.beat.diskScans : 0 } ?? 0
      }
    }
    let deadlineMs = MonotonicClock.nowMs + 90_000
    var wanted: UInt64?
    while wanted.map({ scans() < $0 }) ?? true {
      guard MonotonicClock.nowMs < deadlineMs else {
        throw agents.failure(LabError("the guest doesn't read its disk at the destination"))
      }
      if wanted == nil, session.serial.log.count(from: .destination) > 0 { wanted = scans() + 2 }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}
