import Glibc
import Synchronization
import Testing

@testable import HostIO

/// A thread of this process that computes until it is let go of.
private final class BusyThread: Sendable {
  private let isDone = Atomic<Bool>(false)
  private let state = Guarded<Int32?>(nil)
  private let worker = Mutex<WorkerThread?>(nil)

  init() {
    let worker = WorkerThread("busy") { [self] in
      // Where `/proc/thread-self` leads: PID/task/TID.
      let own = ProcFile.link("/proc/thread-self")?.split(separator: "/").last
      state.update { $0 = own.flatMap { Int32($0) } }
      while !isDone.load(ordering: .relaxed) {}
    }
    self.worker.withLock { $0 = worker }
  }

  var identity: ThreadIdentity? {
    guard let own = ProcessIdentity(pid: getpid()), let tid = state.wait(until: { $0 }) else {
      return nil
    }
    return ThreadIdentity(process: own, tid: tid)
  }

  func end() {
    isDone.store(true, ordering: .relaxed)
    worker.withLock { $0 }?.join()
  }
}

@Suite(.serialized, .timeLimit(.minutes(1))) struct ThreadTests {
  @Test func threadsOfOthersAreNotTakenForTheirs() throws {
    let own = try #require(ProcessIdentity(pid: getpid()))
    let child = try DaemonProcess.spawn(
      program: "/bin/sh", arguments: ["-c", "sleep 60"], environment: ["PATH=/usr/bin:/bin"],
      logPath: "/dev/null")
    defer { _ = try? child.signal(SIGKILL) }
    let main = try #require(ThreadIdentity(process: child, tid: child.pid))
    #expect(main.isAlive)
    // Its id is not a thread of ours, and ours is none of its.
    for (process, tid) in [(own, child.pid), (child, own.pid), (own, 0), (own, -1), (own, .max)] {
      #expect(ThreadIdentity(process: process, tid: tid) == nil)
    }
    // A process with the same pid that began at another time.
    let recycled = ProcessIdentity(pid: child.pid, startTime: child.startTime + 1)
    #expect(ThreadIdentity(process: recycled, tid: child.pid) == nil)
    let stale = ThreadIdentity(process: child, tid: child.pid, startTime: main.startTime + 1)
    #expect(!stale.isAlive)
    let before = try main.affinity()
    #expect(try !stale.setAffinity(CPUSet([before.numbers[0]])))
    #expect(try main.affinity() == before)
  }

  @Test func affinityIsSetAndPutBack() throws {
    let busy = BusyThread()
    defer { busy.end() }
    let thread = try #require(busy.identity)
    let before = try thread.affinity()
    let one = CPUSet([try #require(before.numbers.last)])
    #expect(try thread.setAffinity(one))
    #expect(try thread.affinity() == one)
    let status = try #require(ProcFile.text("/proc/\(getpid())/task/\(thread.tid)/status"))
    #expect(status.contains("Cpus_allowed_list:\t\(one)\n"))
    #expect(before.contains(try #require(thread.lastProcessor)))
    // The others of the process are where they were.
    let main = try #require(ThreadIdentity(process: thread.process, tid: getpid()))
    #expect(try main.affinity() == before)
    #expect(try thread.setAffinity(before))
    #expect(try thread.affinity() == before)
    #expect(throws: SystemError.self) { try thread.setAffinity(CPUSet()) }
    busy.end()
    while thread.isAlive { usleep(1000) }
    #expect(try !thread.setAffinity(one))
  }
}

/// Whether this process may make control groups below its own: root, and a tree that is not read-only.
private let canMakeGroups: Bool = {
  guard let own = ProcessIdentity(pid: getpid()),
    let thread = ThreadIdentity(process: own, tid: getpid()), let home = CPUGroupPlace.of(thread)
  else {
    print("SKIPPED: control groups: no hierarchy with cpu")
    return false
  }
  let group = QuotaGroup(in: home, name: "godwit-test-probe-\(getpid())")
  defer { try? QuotaGroup.remove([group]) }
  do {
    try group.create()
    try group.limit(permille: 1000)
    return true
  } catch {
    print("SKIPPED: control groups: \(error)")
    return false
  }
}()

@Suite(.serialized, .timeLimit(.minutes(1)), .enabled(if: canMakeGroups)) struct QuotaGroupTests {
  private func read(_ group: QuotaGroup, _ file: String) -> String {
    ProcFile.text(group.directory + "/" + file) ?? ""
  }

  /// Quota and period in microseconds; nil quota: none.
  private func limit(_ group: QuotaGroup) -> (quotaUs: Int?, periodUs: Int?) {
    let fields =
      group.home.version == .v2
      ? read(group, "cpu.max") : read(group, "cpu.cfs_quota_us") + read(group, "cpu.cfs_period_us")
    let words = fields.split(whereSeparator: \.isWhitespace)
    let quota = words.first.flatMap { Int($0) }
    return (quota == -1 ? nil : quota, words.last.flatMap { Int($0) })
  }

  @Test func aThreadIsLimitedAndPutBack() throws {
    let busy = BusyThread()
    defer { busy.end() }
    let thread = try #require(busy.identity)
    let home = try #require(CPUGroupPlace.of(thread))
    let group = QuotaGroup(in: home, name: "godwit-test-\(thread.tid)")
    defer { try? QuotaGroup.remove([group]) }
    try group.create()
    try group.create()  // again, as after a crash
    #expect(limit(group).quotaUs == nil)
    for (permille, quotaUs, periodUs) in [
      (1000, 10_000, 10_000), (500, 5000, 10_000), (100, 1000, 10_000), (50, 1000, 20_000),
      (1, 1000, 1_000_000), (0, 1000, 1_000_000), (300, 3000, 10_000),
    ] {
      try group.limit(permille: UInt64(permille))
      #expect(limit(group) == (quotaUs, periodUs), "\(permille) permille")
    }
    try group.limit(permille: 50)
    #expect(try group.take(thread))
    #expect(CPUGroupPlace.of(thread)?.directory == group.directory)
    let main = try #require(ThreadIdentity(process: thread.process, tid: getpid()))
    #expect(CPUGroupPlace.of(main) == home)
    // It computes without a pause, so it is stopped sooner or later.
    while !read(group, "cpu.stat").split(separator: "\n").contains(where: {
      $0.hasPrefix("nr_throttled ") && $0 != "nr_throttled 0"
    }) { usleep(2000) }
    #expect(throws: SystemError.self) { try QuotaGroup.remove([group]) }
    try group.limit(permille: nil)
    #expect(limit(group).quotaUs == nil)
    #expect(try group.giveBack(thread))
    #expect(CPUGroupPlace.of(thread) == home)
    // Somebody else's doing by now: left alone.
    #expect(try !group.giveBack(thread))
    try QuotaGroup.remove([group])
    #expect(!exists(group.directory))
    try QuotaGroup.remove([group])
    #expect(throws: SystemError.self) { try group.limit(permille: 500) }
  }

  @Test func whatItHandedOnIsTakenBack() throws {
    let busy = BusyThread()
    defer { busy.end() }
    let thread = try #require(busy.identity)
    let home = try #require(CPUGroupPlace.of(thread))
    let controllers = { ProcFile.text(home.directory + "/cgroup.subtree_control") }
    let before = controllers()
    let groups = (0..<2).map { QuotaGroup(in: home, name: "godwit-test-\(thread.tid)-\($0)") }
    for group in groups { try group.create() }
    try QuotaGroup.remove([groups[0]])
    try groups[1].limit(permille: 500)
    try QuotaGroup.remove(groups)
    #expect(controllers() == before)
  }

  /// A group looked at what the one above hands on while another migration's was there, which has ended by the time that it
  /// is made.
  @Test func whatAnotherTookBackIsHandedOnAgain() throws {
    let busy = BusyThread()
    defer { busy.end() }
    let thread = try #require(busy.identity)
    let home = try #require(CPUGroupPlace.of(thread))
    let controllers = { ProcFile.text(home.directory + "/cgroup.subtree_control") }
    let before = controllers()
    let first = QuotaGroup(in: home, name: "godwit-test-\(thread.tid)-0")
    try first.create()
    let second = QuotaGroup(in: home, name: "godwit-test-\(thread.tid)-1")
    try QuotaGroup.remove([first])
    try second.create()
    try second.limit(permille: 500)
    #expect(limit(second) == (5000, 10_000))
    try QuotaGroup.remove([second])
    // It was the first one's to take back.
    try QuotaGroup.remove([first])
    #expect(controllers() == before)
  }

  /// Where nothing was handed on there is nothing to take back: who may not write there is no worse off.
  @Test func whatWasNeverMadeIsRemovedWithoutAWrite() throws {
    let folder = "/tmp/godwit-test-nothing-\(getpid())"
    #expect(mkdir(folder, 0o700) == 0)
    defer { rmdir(folder) }
    let control = folder + "/cgroup.subtree_control"
    let raw = open(control, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
    #expect(raw >= 0)
    close(raw)
    defer { unlink(control) }
    let group = QuotaGroup(in: CPUGroupPlace(version: .v2, directory: folder), name: "godwit-x")
    #expect(!group.isDelegated)
    try QuotaGroup.remove([group])
    #expect((ProcFile.text(control) ?? "").isEmpty)
  }

  @Test(arguments: ["machine.slice", "godwit-../x", "", "."])
  func groupsOfOthersAreNotRemoved(name: String) throws {
    let folder = "/tmp/godwit-test-groups-\(getpid())"
    #expect(mkdir(folder, 0o700) == 0)
    defer { rmdir(folder) }
    let group = QuotaGroup(in: CPUGroupPlace(version: .v1, directory: folder), name: name)
    #expect(!group.isOurs)
    mkdir(folder + "/machine.slice", 0o700)
    defer { rmdir(folder + "/machine.slice") }
    try QuotaGroup.remove([group])
    #expect(exists(folder) && exists(folder + "/machine.slice"))
  }
}

private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
