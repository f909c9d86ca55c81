import Agent
import Base
import Foundation
import HostIO
import Testing

@testable import Lab

/// A guest that only a person can save: the source's agent died around the hand-over, and then so did
/// QEMU there. Nobody can know any more whether the guest had run on.
@Suite(.serialized, .needsEquipment)
struct StuckGuestTests {
  private struct Stuck {
    let session: GuestSession
    let source, destination: LabAgent
    var vm: String { session.options.guest.name }
    var mark: String { session.file("destination.tty") }
  }

  /// What `migrate` and `recover` say, with their exit statuses.
  private static func godwit(
    _ agent: LabAgent, _ arguments: String...
  ) async throws -> Command.Result {
    try await Command.execute(
      try #require(Equipment.program), arguments + ["--control-socket", agent.controlSocket],
      timeoutMs: 150_000)
  }

  private func withStuckGuest(_ body: (Stuck) async throws -> Void) async throws {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    // Agents find it by its name, and other tests have guests of their own meanwhile.
    options.guest.name = "stuck"
    options.guest.memory = .mebibytes(256)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 64
    options.guest.workload.hotMiB = 8
    options.guest.workload.dirtyMiBPerSecond = 5
    try await LabRun(options: options, observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let session = try await GuestSession.start(
        options: options, commandLine: commandLine, hosts: hosts, folder: folder, label: "s")
      let first = try await LabAgent.start(
        .source, session: session, environment: ["GODWIT_HOLD_PHASE": "bulk=5s"])
      let destination = try await LabAgent.start(.destination, session: session)
      let (vm, address) = (options.guest.name, hosts.address(.destination))
      let move = Task {
        try await Self.godwit(first, "migrate", vm, "\(address):\(destination.port)")
      }
      let client = ControlClient(path: first.controlSocket)
      while try await client.status().first.map({ $0.phase < .bulk }) ?? true {
        try await Task.sleep(for: .milliseconds(10))
      }
      // Room for `committing` (29 bytes), and for a part of `committed`.
      try await WriteLimit.set(
        [first.process.pid], bytes: WriteLimit.journalBytes(.source, session) + 40)
      let said = try await move.value
      #expect(said.exit == .code(5), "\(said.output)")
      first.process.send(signal: SIGKILL)
      _ = await first.process.wait()
      session.source.process.send(signal: SIGKILL)
      _ = await session.source.process.wait()
      let source = try await LabAgent.start(.source, session: session)
      try await body(Stuck(session: session, source: source, destination: destination))
      for agent in [source, destination] { await agent.end() }
      await session.end()
    }
  }

  private func expectAsked(_ stuck: Stuck) async throws {
    let here = try await Self.godwit(stuck.source, "recover")
    #expect(here.exit == .code(5))
    for text in [
      "needs you: commit in doubt", "journal: committing; QEMU here: gone", "--commit:", "--abort:",
      "--forget:",
    ] {
      #expect(here.output.contains(text), "\(here.output)")
    }
    let there = try await Self.godwit(stuck.destination, "recover")
    // Its own session still waits with the guest: there is nothing that a journal alone could tell.
    #expect(there.exit == .code(0), "\(there.output)")
    #expect(stuck.session.serial.log.count(from: .destination) == 0)
    // Nobody starts the guest meanwhile, and it can't be moved.
    let again = try await Self.godwit(
      stuck.source, "migrate", stuck.vm, "\(stuck.session.hosts.address(.destination))")
    #expect(again.exit == .code(3), "\(again.output)")
  }

  @Test(.timeLimit(.minutes(10))) func isRunAtTheDestination() async throws {
    try await withStuckGuest { stuck in
      try await expectAsked(stuck)
      let said = try await Self.godwit(stuck.source, "recover", stuck.vm, "--commit")
      #expect(said.exit == .code(0), "\(said.output)")
      #expect(said.output.contains("settled: the guest runs at the destination"))
      let deadlineMs = MonotonicClock.nowMs + 60_000
      while stuck.session.serial.log.count(from: .destination) < 5 {
        guard MonotonicClock.nowMs < deadlineMs else {
          throw LabError("the guest does not run; \(stuck.destination.lastWords)")
        }
        try await Task.sleep(for: .milliseconds(50))
      }
      #expect(stuck.session.serial.log.errors == 0)
      for agent in [stuck.source, stuck.destination] {
        let after = try await Self.godwit(agent, "recover")
        #expect(after.exit == .code(0) && after.output.contains("nothing is left"))
      }
      let history = try await ControlClient(path: stuck.source.controlSocket).history(limit: 1)
      #expect(history.first?.outcome == .completed)
    }
  }

  @Test(.timeLimit(.minutes(10))) func isGivenUpAtTheDestination() async throws {
    try await withStuckGuest { stuck in
      try await expectAsked(stuck)
      let said = try await Self.godwit(stuck.source, "recover", stuck.vm, "--abort")
      #expect(said.exit == .code(0), "\(said.output)")
      let deadlineMs = MonotonicClock.nowMs + 30_000
      while !Leftovers.processes(naming: stuck.mark).isEmpty, MonotonicClock.nowMs < deadlineMs {
        try await Task.sleep(for: .milliseconds(50))
      }
      #expect(Leftovers.processes(naming: stuck.mark).isEmpty)
      #expect(stuck.session.serial.log.count(from: .destination) == 0)
    }
  }
}
