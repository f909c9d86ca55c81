import Agent
import Base
import Foundation
import HostIO
import Testing

@testable import Lab

/// A guest that leaves its host with a copy of its memory kept there, and comes back.
@Suite(.serialized, .needsEquipment)
struct ReturnTests {
  /// - Parameter name: agents find it by its name, and other tests have guests of their own meanwhile.
  private func options(_ name: String, _ backend: GuestSpecification.Backend) -> LabOptions {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.guest.backend = backend
    options.guest.name = name
    options.guest.memory = .mebibytes(320)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 96
    options.guest.workload.hotMiB = 8
    options.guest.workload.dirtyMiBPerSecond = 2
    options.guest.workload.verifyMiBPerSecond = 50
    return options
  }

  /// Both ways are audited; on the way back most pages come from the vault.
  @Test(.timeLimit(.minutes(15))) func thereAndBack() async throws {
    let ways: [(String, GuestSpecification.Backend)] = [
      ("precopy", .memfd), ("dsm", .memfd), ("precopy", .none),
    ]
    await twoAtATime(ways) { try await goesAndReturns(strategy: $0.0, backend: $0.1) }
  }

  private func goesAndReturns(
    strategy: String, backend: GuestSpecification.Backend
  ) async throws {
    let options = options("returning-\(strategy)-\(backend.rawValue)", backend)
    try await LabRun(options: options, observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let session = try await GuestSession.start(
        options: options, commandLine: commandLine, hosts: hosts, folder: folder, label: "return")
      let home = try await LabAgent.start(.source, session: session)
      let away = try await LabAgent.start(.destination, session: session)
      try LabAgent.files(.source, session).define(session)

      let there = try await Self.move(
        session, home, to: "\(hosts.address(.destination)):\(away.port)"
      ) {
        $0.keepMemory = true
      }
      #expect(there.outcome == .completed, "\(options.guest.name): \(there.reason ?? "")")
      let kept = try #require(there.kept)
      #expect(kept.problem == nil && (kept.pages ?? 0) > 20_000, "\(kept)")
      #expect(there.pages.snapshot == nil)
      try await Self.expectAlive(session, at: .destination)
      let list = try await ControlClient(path: home.controlSocket).vault(VaultRequest(.verify))
      #expect(list.map(\.vm) == [session.options.guest.name])
      #expect(list.first?.state == .whole && list.first?.pages == kept.pages)

      let back = try await Self.move(session, away, to: "\(hosts.address(.source)):\(home.port)") {
        $0.strategy = strategy
        $0.audit = true
      }
      #expect(back.outcome == .completed, "\(options.guest.name): \(back.reason ?? "")")
      #expect(back.audit.pagesDiffering == 0 && (back.audit.pagesCompared ?? 0) > 80_000)
      #expect((back.pages.snapshot ?? 0) > (kept.pages ?? 0) / 2, "\(back.pages)")
      #expect(back.refetchedPages == 0)
      if strategy == "dsm" {
        let pull = try #require(back.pull)
        #expect(pull.snapshotPages != nil && pull.placedPages == pull.owedPages, "\(pull)")
      }
      #expect((back.wireBytes ?? .max) < (there.wireBytes ?? 0) / 2, "\(back.wireBytes as Any)")
      try await Self.expectAlive(session, at: .source)
      let used = try await ControlClient(path: home.controlSocket).vault(VaultRequest(.list))
      #expect(used.first?.uses == 1)
      for agent in [home, away] { await agent.end() }
      await session.end()
    }
  }

  /// Its memory was copied to the destination's vault while it ran.
  @Test(.timeLimit(.minutes(8))) func copiedAhead() async throws {
    let options = options("returning", .memfd)
    try await LabRun(options: options, observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let session = try await GuestSession.start(
        options: options, commandLine: commandLine, hosts: hosts, folder: folder, label: "ahead")
      let home = try await LabAgent.start(.source, session: session)
      let away = try await LabAgent.start(.destination, session: session)
      let address = "\(hosts.address(.destination)):\(away.port)"
      var request = WarmRequest(vm: session.options.guest.name, destination: address)
      request.bandwidthBytesPerSecond = 200_000_000
      var passes: [WarmRecord] = []
      for _ in 0..<2 {
        for try await update in ControlClient(path: home.controlSocket).warm(request) {
          if case .pass(let record) = update { passes.append(record) }
        }
      }
      try #require(passes.count == 2)
      #expect(passes[0].heldPages == 0 && passes[0].keptPages > 20_000, "\(passes)")
      #expect(passes[1].heldPages > passes[1].sentPages, "\(passes)")
      #expect(passes[1].wireBytes < passes[0].wireBytes / 2, "\(passes)")
      let list = try await ControlClient(path: away.controlSocket).vault(VaultRequest(.verify))
      #expect(list.map(\.vm) == [session.options.guest.name] && list.first?.state == .whole)

      let moved = try await Self.move(session, home, to: address) { $0.audit = true }
      #expect(moved.outcome == .completed, "\(moved.reason ?? "")")
      #expect(moved.audit.pagesDiffering == 0 && (moved.audit.pagesCompared ?? 0) > 80_000)
      #expect((moved.pages.snapshot ?? 0) > passes[1].keptPages / 2, "\(moved.pages)")
      #expect(moved.refetchedPages == 0)
      try await Self.expectAlive(session, at: .destination)
      for agent in [home, away] { await agent.end() }
      await session.end()
    }
  }

  private static func move(
    _ session: GuestSession, _ from: LabAgent, to address: String,
    _ adjust: (inout MigrationRequest) -> Void
  ) async throws -> MigrationRecord {
    var request = MigrationRequest(vm: session.options.guest.name, destination: address)
    adjust(&request)
    for try await update in ControlClient(path: from.controlSocket).migrate(request) {
      if case .finished(let record) = update { return record }
    }
    throw LabError("the agent went away: \(from.lastWords)")
  }

  /// The guest runs there, and finds its memory whole.
  private static func expectAlive(_ session: GuestSession, at side: HeartbeatLog.Side) async throws
  {
    let count = session.serial.log.count(from: side)
    let deadlineMs = MonotonicClock.nowMs + 60_000
    while session.serial.log.count(from: side) < count + 20 {
      guard MonotonicClock.nowMs < deadlineMs else {
        throw LabError("the guest does not run there")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(session.serial.log.errors == 0)
  }
}
