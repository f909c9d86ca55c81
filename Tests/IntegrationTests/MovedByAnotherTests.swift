import Agent
import Base
import Foundation
import HostIO
import QMP
import Testing

@testable import Lab

/// A guest that somebody moved without Godwit after the source's agent had died: the agent that comes back must not run
/// it again, whatever its journal says of a guest that never left.
@Suite(.serialized, .needsEquipment)
struct MovedByAnotherTests {
  private static func godwit(
    _ agent: LabAgent, _ arguments: String...
  ) async throws -> Command.Result {
    try await Command.execute(
      try #require(Equipment.program), arguments + ["--control-socket", agent.controlSocket],
      timeoutMs: 150_000)
  }

  private static func atMonitor<T: Sendable>(
    _ session: GuestSession, _ body: (QMPClient) async throws -> T
  ) async throws -> T {
    let monitor = try await Monitor.connect(path: session.source.monitorPath, timeoutMs: 30_000)
    do {
      let value = try await body(monitor.client)
      await monitor.close()
      return value
    } catch {
      await monitor.close()
      throw error
    }
  }

  /// QEMU's own migration into nothing: to QEMU the guest is gone as with any other.
  private static func moveAway(_ session: GuestSession) async throws {
    try await atMonitor(session) { client in
      while try await client.queryMigrate().status.isRunning {
        try await Task.sleep(for: .milliseconds(20))
      }
      // As Godwit has set them.
      let known = try await client.queryMigrateCapabilities()
      let names = ["return-path", "switchover-ack"].filter { known.exists($0) }
      try await client.migrateSetCapabilities(
        Dictionary(uniqueKeysWithValues: names.map { ($0, false) }))
      try await client.migrate(uri: "exec:cat >/dev/null")
      while try await client.queryMigrate().status != .completed {
        try await Task.sleep(for: .milliseconds(20))
      }
    }
  }

  private static func runState(_ session: GuestSession) async throws -> RunState {
    try await atMonitor(session) { try await $0.queryStatus().state }
  }

  @Test(.timeLimit(.minutes(5))) func itIsNotRunAgain() async throws {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.guest.name = "moved"
    options.guest.memory = .mebibytes(256)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 64
    options.guest.workload.hotMiB = 8
    options.guest.workload.dirtyMiBPerSecond = 1
    try await LabRun(options: options, observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let session = try await GuestSession.start(
        options: options, commandLine: commandLine, hosts: hosts, folder: folder, label: "m")
      let first = try await LabAgent.start(
        .source, session: session, environment: ["GODWIT_HOLD_PHASE": "bulk=60s"])
      let destination = try await LabAgent.start(.destination, session: session)
      let (vm, to) = (options.guest.name, "\(hosts.address(.destination)):\(destination.port)")
      let move = Task { try await Self.godwit(first, "migrate", vm, to) }
      let client = ControlClient(path: first.controlSocket)
      while try await client.status().first.map({ $0.phase < .bulk }) ?? true {
        try await Task.sleep(for: .milliseconds(10))
      }
      first.process.send(signal: SIGKILL)
      _ = await first.process.wait()
      _ = try await move.value
      try await Self.moveAway(session)
      #expect(try await Self.runState(session) == .postMigrate)

      let source = try await LabAgent.start(.source, session: session)
      let asked = try await Self.godwit(source, "recover", vm)
      #expect(asked.exit == .code(5), "\(asked.output)")
      #expect(asked.output.contains("somebody else has moved the guest"), "\(asked.output)")
      #expect(try await Self.runState(session) == .postMigrate)
      let again = try await Self.godwit(source, "migrate", vm, to)
      #expect(again.exit == .code(3) && again.output.contains("not settled"), "\(again.output)")
      // What isn't offered is said so, and nothing comes of it.
      let commit = try await Self.godwit(source, "recover", vm, "--commit")
      #expect(commit.exit == .code(5) && commit.output.contains("can't be decided here"))
      let forgotten = try await Self.godwit(source, "recover", vm, "--forget")
      #expect(forgotten.exit == .code(0), "\(forgotten.output)")
      #expect(try await Self.runState(session) == .postMigrate)
      #expect(session.serial.log.count(from: .destination) == 0)
      for agent in [source, destination] { await agent.end() }
      await session.end()
    }
  }
}
