import Foundation
import Testing

@testable import HostIO

@Suite(.timeLimit(.minutes(1))) struct ProcessTests {
  private func spawn(_ script: String, log: String = "/dev/null") throws -> ProcessIdentity {
    try DaemonProcess.spawn(
      program: "/bin/sh", arguments: ["-c", script], environment: ["PATH=/usr/bin:/bin", "A=b c"],
      logPath: log)
  }

  @Test func anIdentityIsPidAndStartTime() throws {
    let own = try #require(ProcessIdentity(pid: getpid()))
    #expect(own.isAlive && own.startTime > 0)
    let recycled = ProcessIdentity(pid: own.pid, startTime: own.startTime + 1)
    #expect(!recycled.isAlive)
    // Signal 0 to a process that has our pid but is not us: nothing is sent.
    #expect(try !recycled.signal(0))
    #expect(try own.signal(0))
    #expect(ProcessIdentity(pid: 0) == nil && ProcessIdentity(pid: -1) == nil)
  }

  @Test func exitStatusIsSeen() async throws {
    #expect(try await spawn("exit 7").waitForExit(timeoutMs: 10_000) == .exited(7))
    #expect(try await spawn("kill -9 $$").waitForExit(timeoutMs: 10_000) == .signalled(9))
  }

  @Test func waitingEndsAtTheTimeout() async throws {
    let process = try spawn("sleep 60")
    #expect(try await process.waitForExit(timeoutMs: 50) == nil)
    #expect(process.isAlive)
    #expect(try await process.terminate(graceMs: 30_000) == .signalled(SIGTERM))
    #expect(!process.isAlive)
  }

  @Test func whatIgnoresSIGTERMIsKilled() async throws {
    let log = "/tmp/godwit-test-\(UUID().uuidString).log"
    defer { unlink(log) }
    let process = try spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done", log: log)
    while (try? String(contentsOfFile: log, encoding: .utf8)) != "ready\n" {
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(try await process.terminate(graceMs: 200) == .signalled(SIGKILL))
  }

  /// As long as it isn't let go, a child ends with whoever has it.
  @Test func aTiedChildEndsUnlessItIsLetGo() async throws {
    func start(letsGo: Bool) throws -> ChildProcess {
      let child = try TiedChild("sh", ["-c", letsGo ? "sleep 1; exit 4" : "exec sleep 60"])
      if letsGo { child.letGo() }
      return child.process
    }
    #expect(try await start(letsGo: true).wait() == .code(4))
    #expect(try await start(letsGo: false).wait() == .signal(SIGTERM))
    let missing = try TiedChild("/nonexistent/program", [])
    missing.letGo()
    #expect(await missing.process.wait() == .code(127))
  }

  @Test func aDaemonHasItsOwnSessionAndNothingInherited() async throws {
    let log = "/tmp/godwit-test-\(UUID().uuidString).log"
    defer { unlink(log) }
    let inherited = open("/dev/null", O_RDONLY)  // without close-on-exec
    defer { close(inherited) }
    let process = try spawn(
      "echo session $(cut -d' ' -f6 /proc/$$/stat) $$; echo $A; pwd; ls /proc/$$/fd; echo err >&2",
      log: log)
    #expect(try await process.waitForExit(timeoutMs: 10_000) == .exited(0))
    let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
    #expect(lines.first == "session \(process.pid) \(process.pid)")
    #expect(lines.dropFirst().prefix(2) == ["b c", "/"])
    #expect(lines.last == "err")
    #expect(!lines.dropFirst(3).contains { (Int($0) ?? 0) > 10 })
    #expect(!lines.dropFirst(3).contains("\(inherited)"))
    #expect(LogTail.read(log, byteCount: 4) == "err\n")
  }

  @Test func aMissingProgramIsAnError() {
    #expect(throws: SystemError.self) {
      try DaemonProcess.spawn(
        program: "/nonexistent/qemu", arguments: [], environment: [], logPath: "/dev/null")
    }
  }

  @Test func readsProcWithinBounds() throws {
    #expect(ProcFile.pids().contains(getpid()))
    #expect(try #require(ProcFile.arguments(pid: getpid())).isEmpty == false)
    #expect(ProcFile.bytes("/dev/zero", limit: 1000)?.count == 1000)
    #expect(ProcFile.text("/nonexistent") == nil)
    #expect(ProcFile.link("/proc/self/exe")?.hasPrefix("/") == true)
  }

  @Test func privateFoldersAreOnlyOurs() throws {
    let folder = "/tmp/godwit-test-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try PrivateDirectory.make(folder + "/a/b")
    try PrivateDirectory.make(folder + "/a/b")
    var status = stat()
    #expect(stat(folder + "/a/b", &status) == 0 && status.st_mode & 0o777 == 0o700)
    chmod(folder + "/a/b", 0o777)
    #expect(throws: SystemError.self) { try PrivateDirectory.make(folder + "/a/b") }
    symlink("/tmp", folder + "/link")
    #expect(throws: SystemError.self) { try PrivateDirectory.make(folder + "/link") }
  }
}

@Suite struct ProcessExitTests {
  private struct NoHandle: Error {}

  /// A wait that fails is no end, and no reason to ask without a pause; the process itself tells.
  @Test(.timeLimit(.minutes(1))) func aFailedWaitIsNoEnd() async {
    var (waits, looks) = (0, 0)
    let isGone = await ProcessIdentity.waitUntilGone(
      isAlive: {
        looks += 1
        return looks < 3
      }, pauseMs: 1
    ) {
      waits += 1
      if waits == 2 { return nil }
      throw NoHandle()
    }
    #expect(isGone)
    #expect((waits, looks) == (4, 3))
  }

  @Test(.timeLimit(.minutes(1))) func endsWithTheTask() async {
    let waiting = Task {
      await ProcessIdentity.waitUntilGone(isAlive: { true }, pauseMs: 60_000) { throw NoHandle() }
    }
    waiting.cancel()
    #expect(await !waiting.value)
  }

  @Test(.timeLimit(.minutes(1))) func anEndIsSeen() async throws {
    let process = try ChildProcess("sleep", ["600"])
    let identity = try #require(ProcessIdentity(pid: process.pid))
    let waiting = Task { await identity.waitUntilGone() }
    try await Task.sleep(for: .milliseconds(200))
    process.send(signal: SIGKILL)
    #expect(await waiting.value)
  }
}
