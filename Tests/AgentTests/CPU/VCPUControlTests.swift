import Foundation
import HostIO
import Logging
import Strategy
import Testing
import Wire

@testable import Agent
@testable import QMP

private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// How the kernel says that all threads of a process are limited, by thread id.
private struct Limits: Equatable {
  struct Thread: Equatable {
    var affinity: String
    var group: CPUGroupPlace?
  }
  var threads: [Int32: Thread] = [:]

  init(of pid: Int32) throws {
    let process = try #require(ProcessIdentity(pid: pid))
    for name in ProcFile.names(in: "/proc/\(pid)/task") {
      guard let tid = Int32(name), let thread = ThreadIdentity(process: process, tid: tid),
        let affinity = try? thread.affinity()
      else { continue }
      threads[tid] = Thread(affinity: "\(affinity)", group: CPUGroupPlace.of(thread))
    }
  }

  func only(_ tids: Set<Int32>) -> [Int32: Thread] { threads.filter { tids.contains($0.key) } }
  func without(_ tids: Set<Int32>) -> [Int32: Thread] {
    threads.filter { !tids.contains($0.key) }
  }
}

/// A QEMU with two vCPUs, its monitor, and a journal in a folder of its own.
private final class Guest {
  let qemu: RunningQEMU
  let monitor: Monitor
  let process: ProcessIdentity
  let tids: Set<Int32>
  let id = MigrationID(high: .random(in: 0...UInt64.max), low: 1)
  let directory: String
  let journal: Journal

  init(_ program: QEMUProgram) async throws {
    qemu = try await RunningQEMU(program, ["-smp", "2"])
    monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    process = try #require(ProcessIdentity(pid: qemu.pid))
    tids = Set(try await monitor.client.queryCPUsFast().map(\.threadID))
    directory = qemu.folder.path() + "/journal"
    journal = try Journal(directory: directory, id: id.description)
  }

  func control() async throws -> VCPUControl {
    try await VCPUControl.prepare(
      monitor.client, process, id: id, journal: journal, logger: silent)
  }

  var story: SourceStory { get throws { SourceStory(try Journal.records(at: journal.path)) } }
  var limits: Limits { get throws { try Limits(of: qemu.pid) } }

  /// Control groups of this migration that are there.
  func groups(_ snapshot: VCPUSnapshot) -> [String] {
    snapshot.threads.compactMap(\.group).filter(\.exists).map(\.name)
  }
}

@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct VCPUControlTests {
  @Test(arguments: QEMUProgram.installed)
  func confinedAndGivenBack(program: QEMUProgram) async throws {
    let guest = try await Guest(program)
    #expect(guest.tids.count == 2 && !guest.tids.contains(guest.qemu.pid))
    let before = try guest.limits
    let control = try await guest.control()
    #expect(control.facts.vcpuCount == 2 && control.facts.canConfine)
    let processors = try #require(CPUSet(parsing: before.threads.first?.value.affinity ?? "-"))
    #expect(control.facts.hostCores == UInt64(processors.count))
    // Trying left nothing behind, and what was before is in the journal.
    #expect(try guest.limits == before)
    let snapshot = try #require(try guest.story.vcpus)
    #expect(Set(snapshot.threads.map(\.identity.tid)) == guest.tids)
    #expect(guest.groups(snapshot).isEmpty)

    for (wanted, cores) in [(UInt64(1), 1), (0, 1), (1 << 40, processors.count)] {
      let inForce = try await control.apply(.cores(wanted))
      #expect(inForce == .cores(UInt64(cores)))
      let now = try guest.limits
      let masks = Set(now.only(guest.tids).values.map(\.affinity))
      #expect(masks.count == 1)
      #expect(CPUSet(parsing: masks.first ?? "-")?.count == cores)
      #expect(now.without(guest.tids) == before.without(guest.tids))
    }
    _ = try await control.apply(.none)
    #expect(try guest.limits == before)
    _ = try await control.apply(.cores(1))
    await control.restore()
    #expect(try guest.limits == before)
    #expect(try guest.story.vcpus == nil)
    await #expect(throws: VCPUError.ended) { try await control.apply(.cores(1)) }
    #expect(try guest.limits == before)
  }

  @Test(arguments: QEMUProgram.installed)
  func timeIsLimitedWhereTheHostAllowsIt(program: QEMUProgram) async throws {
    let guest = try await Guest(program)
    let before = try guest.limits
    let control = try await guest.control()
    let snapshot = try #require(try guest.story.vcpus)
    let inForce = try await control.apply(.quota(permille: 200))
    guard control.facts.canLimitTime else {
      // The fallback says what it is.
      #expect(inForce == .cores(1) && control.facts.obstacle != nil)
      return await control.restore()
    }
    #expect(inForce == .quota(permille: 200))
    let now = try guest.limits
    #expect(now.without(guest.tids) == before.without(guest.tids))
    let homes = Set(before.only(guest.tids).values.compactMap(\.group?.directory))
    let directories = now.only(guest.tids).values.compactMap(\.group?.directory)
    #expect(Set(directories).count == 2 && Set(directories).isDisjoint(with: homes))
    for directory in directories {
      let quota =
        ProcFile.text(directory + "/cpu.cfs_quota_us") ?? ProcFile.text(directory + "/cpu.max")
      #expect(quota?.hasPrefix("2000") == true)
    }
    // One limit takes the other's place.
    _ = try await control.apply(.cores(1))
    for directory in directories {
      let quota =
        ProcFile.text(directory + "/cpu.cfs_quota_us") ?? ProcFile.text(directory + "/cpu.max")
      #expect(quota?.hasPrefix("-1") == true || quota?.hasPrefix("max") == true)
    }
    _ = try await control.apply(.quota(permille: 500))
    let masks = try guest.limits.only(guest.tids).values.map(\.affinity)
    #expect(Set(masks) == Set(before.only(guest.tids).values.map(\.affinity)))
    await control.restore()
    #expect(try guest.limits == before)
    #expect(guest.groups(snapshot).isEmpty)
    await control.restore()
  }

  @Test func aQEMUThatEndsLeavesNoGroups() async throws {
    let guest = try await Guest(QEMUProgram.installed[0])
    let control = try await guest.control()
    let snapshot = try #require(try guest.story.vcpus)
    _ = try await control.apply(.quota(permille: 100))
    #expect(guest.groups(snapshot).count == (control.facts.canLimitTime ? 2 : 0))
    guest.qemu.kill()
    await control.restore()
    #expect(guest.groups(snapshot).isEmpty)
    #expect(try guest.story.vcpus == nil)
  }

  @Test func threadsThatAreNotQEMUsAreRefused() async throws {
    let guest = try await Guest(QEMUProgram.installed[0])
    let other = try await RunningQEMU(QEMUProgram.installed[0])
    let before = try guest.limits
    let own = try #require(guest.tids.first)
    for tid in [guest.qemu.pid, other.pid, getpid(), 1, 0, -1, .max] {
      #expect(throws: VCPUError.notItsThread(tid)) {
        try VCPUSnapshot(tids: [own, tid], of: guest.process, label: "test")
      }
    }
    #expect(throws: VCPUError.noVCPUs) {
      try VCPUSnapshot(tids: [], of: guest.process, label: "test")
    }
    // Single-threaded TCG names one thread for all vCPUs.
    let shared = try VCPUSnapshot(tids: [own, own, own], of: guest.process, label: "test")
    #expect(shared.threads.count == 1)
    // A recycled pid: nothing is touched.
    let recycled = ProcessIdentity(
      pid: guest.process.pid, startTime: guest.process.startTime + 1)
    #expect(throws: VCPUError.notItsThread(own)) {
      try VCPUSnapshot(tids: [own], of: recycled, label: "test")
    }
    #expect(try guest.limits == before)
    let unseen = try await VCPUControl.prepare(
      guest.monitor.client, nil, id: guest.id, journal: guest.journal, logger: silent)
    #expect(!unseen.facts.canLimitCPU && unseen.facts.obstacle != nil)
    _ = try await unseen.apply(.none)
    await #expect(throws: VCPUError.self) { try await unseen.apply(.cores(1)) }
  }

  /// `kill -9` of the process that has limited the guest; another one finds its journal.
  @Test(arguments: [CPULimit.cores(1), .quota(permille: 100)])
  func anAgentThatIsKilledGivesBackWhenItIsStartedAgain(limit: CPULimit) async throws {
    let guest = try await Guest(QEMUProgram.installed[0])
    let before = try guest.limits
    await guest.monitor.close()  // QEMU takes one client
    let (monitorPath, pid, directory) = (
      guest.qemu.monitorPath, guest.qemu.pid, guest.directory
    )
    let (id, isQuota) = (guest.id.description, limit != .cores(1))
    await #expect(processExitsWith: .signal(SIGKILL)) {
      [
        monitorPath = monitorPath as String, pid = pid as Int32,
        directory = directory as String, id = id as String, isQuota = isQuota as Bool
      ] in
      let monitor = try await Monitor.connect(path: monitorPath, timeoutMs: 60_000)
      let journal = try Journal(directory: directory, id: id)
      let start = JournalRecord.SourceStart(
        id: id, vm: "web-1", destination: "127.0.0.1:1", monitorPath: monitorPath, pid: pid,
        processStart: ProcessIdentity(pid: pid)?.startTime ?? 0, capabilities: [:],
        parameters: "{}", wasRunning: true, startedAt: 0, keepSource: false)
      try await journal.append(.sourceBegan(start))
      let control = try await VCPUControl.prepare(
        monitor.client, ProcessIdentity(pid: pid), id: try #require(MigrationID(id)),
        journal: journal, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      _ = try await control.apply(isQuota ? .quota(permille: 100) : .cores(1))
      kill(getpid(), SIGKILL)
    }
    let story = try guest.story
    let snapshot = try #require(story.vcpus)
    #expect(try guest.limits != before)

    var configuration = AgentConfiguration()
    configuration.stateDirectory = guest.qemu.folder.path()
    configuration.runtimeDirectory = guest.qemu.folder.path() + "/run"
    #expect(configuration.journalDirectory == guest.directory)
    let agent = MigrationAgent(configuration: configuration, history: nil, logger: silent)
    let item = try #require(try await agent.recover(RecoverRequest()).first)
    #expect(item.vm == "web-1" && item.phase == "sourceBegan")
    #expect(try guest.limits == before)
    #expect(guest.groups(snapshot).isEmpty)

    // Only once: what an operator does to the threads afterwards stays.
    let thread = try #require(snapshot.threads.first?.identity)
    let pinned = CPUSet([try #require(try thread.affinity().numbers.last)])
    try thread.setAffinity(pinned)
    _ = try await agent.recover(RecoverRequest())
    #expect(try thread.affinity() == pinned)
  }

  @Test func snapshotsSurviveTheJournal() async throws {
    let guest = try await Guest(QEMUProgram.installed[0])
    let snapshot = try VCPUSnapshot(
      tids: Array(guest.tids), of: guest.process, label: "test")
    try await guest.journal.append(.vcpusLimited(snapshot))
    #expect(try guest.story.vcpus == snapshot)
    try await guest.journal.append(.vcpusRestored)
    #expect(try guest.story.vcpus == nil)
  }
}
