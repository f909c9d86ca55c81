import Agent
import Base
import Foundation
import HostIO
import Testing

@testable import Lab

/// Guests that find pages in what is kept of another one.
@Suite(.serialized, .needsEquipment)
struct SharedVaultTests {
  private static func options(_ name: String) -> LabOptions {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.guest.name = name
    options.guest.memory = .mebibytes(192)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 32
    options.guest.workload.hotMiB = 8
    options.guest.workload.dirtyMiBPerSecond = 1
    options.guest.workload.verifyMiBPerSecond = 50
    return options
  }

  /// One guest's memory was copied ahead and stays there. One of its group finds pages of it, at the same places and at
  /// others; one of no group gets none, and both arrive whole.
  @Test(.timeLimit(.minutes(8))) func aGroupAndAStranger() async throws {
    let guests = ["web-1", "web-2", "db-1"].map(Self.options)
    try await LabRun(options: guests[0], observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let sessions = try await GuestSession.start(together: guests, commandLine, hosts, folder)
      let source = try await LabAgent.start(.source, session: sessions[0])
      let destination = try await LabAgent.start(
        .destination, session: sessions[0],
        settings: "[[share]]\ngroup = \"web\"\nvms = [\"web-*\"]")
      let files = LabAgent.files(.destination, sessions[0])
      for session in sessions.dropFirst() { try files.define(session) }
      let address = "\(hosts.address(.destination)):\(destination.port)"

      var warm = WarmRequest(vm: "web-1", destination: address)
      warm.bandwidthBytesPerSecond = 400_000_000
      for try await update in ControlClient(path: source.controlSocket).warm(warm) {
        if case .pass(let record) = update { #expect(record.keptPages > 10_000, "\(record)") }
      }
      let records = try await [
        Self.move(sessions[1], source, to: address), Self.move(sessions[2], source, to: address),
      ]
      for record in records {
        #expect(record.outcome == .completed, "\(record.reason ?? "")")
        #expect(record.audit.pagesDiffering == 0 && (record.audit.pagesCompared ?? 0) > 40_000)
        #expect(record.refetchedPages == 0)
      }
      // How many of them lie at the same places is up to the guests' kernels: once it was nearly all.
      let found = (same: records[0].pages.snapshot, elsewhere: records[0].pages.vault)
      #expect((found.same ?? 0) > 0 && found.elsewhere != nil, "\(records[0].pages)")
      #expect((found.same ?? 0) + (found.elsewhere ?? 0) > 2000, "\(records[0].pages)")
      #expect((records[0].wireBytes ?? .max) < (records[1].wireBytes ?? 0) / 2)
      #expect(records[1].pages.snapshot == nil && records[1].pages.vault == nil)
      for agent in [source, destination] { await agent.end() }
      for session in sessions { await session.end() }
    }
  }

  private static func move(
    _ session: GuestSession, _ source: LabAgent, to destination: String
  ) async throws -> MigrationRecord {
    var request = MigrationRequest(vm: session.options.guest.name, destination: destination)
    request.audit = true
    for try await update in ControlClient(path: source.controlSocket).migrate(request) {
      if case .finished(let record) = update { return record }
    }
    throw LabError("the agent went away: \(source.lastWords)")
  }
}
