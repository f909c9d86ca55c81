import Agent
import Foundation
import HostIO
import QMP
import Testing

@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct MonitorTests {
  @Test(arguments: QEMUProgram.installed)
  func typedCommandsOnARealQEMU(program: QEMUProgram) async throws {
    let qemu = try await RunningQEMU(program, ["-name", "guest=falcon", "-smp", "2"])
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let client = monitor.client
    #expect(client.greeting?.version == (try await client.queryVersion()))
    #expect(try await client.queryName() == "falcon")
    #expect(try await client.queryStatus().state == .running)
    try await client.stop()
    #expect(try await client.queryStatus() == VMStatus(state: .paused, isRunning: false))
    try await client.cont()
    #expect(try await client.queryCPUsFast().count == 2)
    #expect(try await client.ramBlocks().contains { $0.usedSize == RunningQEMU.ramBytes })
    #expect(try await client.queryMemorySize() == RunningQEMU.ramBytes)
    let words = try await client.cpuFeatureWords(
      qomPath: client.queryCPUsFast().first?.qomPath ?? "")
    #expect(words.contains { $0.bits != 0 })
    let error = await #expect(throws: QMPError.self) { try await client.execute("no-such") }
    #expect(error?.isCommandNotFound == true && error?.command == "no-such")
    try await client.quit()
    await monitor.closed()
    #expect(monitor.isClosed)
  }

  @Test(arguments: QEMUProgram.installed)
  func settingsAreRestoredExactly(program: QEMUProgram) async throws {
    let qemu = try await RunningQEMU(program)
    let client = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000).client
    // The client alone does not hold the connection; the monitor does.
    #expect(client.isClosed)
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let capabilities = try await monitor.client.queryMigrateCapabilities()
    let parameters = try await monitor.client.queryMigrateParameters()
    try await monitor.client.migrateSetCapabilities(["events": true, "return-path": true])
    try await monitor.client.migrateSetParameters(["max-bandwidth": 0, "downtime-limit": 1])
    #expect(try await monitor.client.queryMigrateCapabilities()["return-path"])
    try await monitor.client.restore(capabilities: capabilities, parameters: parameters)
    #expect(try await monitor.client.queryMigrateCapabilities() == capabilities)
    #expect(try await monitor.client.queryMigrateParameters() == parameters)
  }

  @Test(arguments: QEMUProgram.installed)
  func eventsOfAMigration(program: QEMUProgram) async throws {
    let qemu = try await RunningQEMU(program)
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    try await monitor.client.migrateSetCapabilities(["events": true])
    let events = monitor.client.events()
    try await monitor.client.migrate(uri: "exec:cat >/dev/null")
    var seen: [MigrationStatus] = []
    for await event in events {
      if let status = event.migrationStatus { seen.append(status) }
      if seen.last?.isFinal == true { break }
    }
    #expect(seen.first == .setup && seen.last == .completed)
    // The event comes a moment before the downtime and the state.
    while try await monitor.client.queryMigrate().downtimeMs == nil {
      try await Task.sleep(for: .milliseconds(5))
    }
    while try await monitor.client.queryStatus().state == .finishMigrate {
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(try await monitor.client.queryStatus().state == .postMigrate)
  }

  @Test func aKilledQEMUIsNoticedAndFailsWhatWaits() async throws {
    let qemu = try await RunningQEMU(QEMUProgram.installed[0])
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    kill(qemu.pid, SIGSTOP)
    let hanging = await #expect(throws: QMPError.self) {
      try await monitor.client.queryStatus(timeoutMs: 200)
    }
    #expect(hanging?.code == .timedOut(afterMs: 200))
    async let cut: Void = {
      let error = await #expect(throws: QMPError.self) { try await monitor.client.queryStatus() }
      #expect(error?.code == .disconnected && error?.command == "query-status")
    }()
    try await Task.sleep(for: .milliseconds(100))
    kill(qemu.pid, SIGKILL)
    await cut
    await monitor.closed()
  }

  /// As a QEMU that is about to notice the end of its last client. After the greeting it is no such thing.
  @Test(arguments: [1, 4, 5, 6]) func whoIsLetGoWithoutAWordComesAgain(times: Int) async throws {
    let path = "/tmp/godwit-greeting-\(UUID().uuidString.prefix(8))"
    let listener = try UnixSocket.listen(path: path)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let accepted = Guarded(0)
    let server = WorkerThread("test-greeting") {
      while let socket = try? listener.accept(timeoutMs: 60_000) {
        let number = accepted.update { count in
          count += 1
          return count
        }
        // The last one is greeted, and let go all the same.
        if number == times + 1 || number == 5 {
          let version = #"{"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}"#
          let line = #"{"QMP": {"version": \#(version), "capabilities": []}}"# + "\r\n"
          if number <= times { return socket.shutdown() }
          try? socket.writeAll(Array(line.utf8).span.bytes)
          return socket.shutdown()
        }
        socket.shutdown()
      }
    }
    let error = await #expect(throws: MonitorError.self) {
      _ = try await Monitor.connect(path: path, timeoutMs: 10_000)
    }
    server.join()
    #expect(error?.cause.code == .disconnected)
    #expect((error?.cause.command == "greeting") == (times >= 5))
    #expect(accepted.read { $0 } == min(times + 1, 5))
  }

  @Test func aMonitorInUseSaysSo() async throws {
    let qemu = try await RunningQEMU(QEMUProgram.installed[0])
    let first = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let error = await #expect(throws: MonitorError.self) {
      _ = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 300)
    }
    #expect(error?.description.contains("another program holds its only connection") == true)
    await first.close()
    _ = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
  }

  @Test func noSocketNoConnection() async {
    await #expect(throws: (any Error).self) {
      _ = try await Monitor.connect(path: "/nonexistent/qmp.sock", timeoutMs: 300)
    }
    await #expect(throws: (any Error).self) {
      _ = try await Monitor.connect(path: "/" + String(repeating: "x", count: 200), timeoutMs: 300)
    }
  }
}
