import Agent
import Base
import Foundation
import HostIO
import Testing

@testable import Lab

/// A real guest that dirties 32 MiB at 64 MiB/s: what `godwit plan` and `godwit trace` see of it from outside.
@Suite(.serialized, .needsEquipment)
struct PlanTests {
  static let name = "planned"
  static let hotMiB: UInt64 = 32
  static let hotPages = hotMiB << 8

  private func options(_ backend: GuestSpecification.Backend) -> LabOptions {
    var options = LabOptions()
    options.godwitProgram = Equipment.program
    options.guest.name = Self.name
    options.guest.backend = backend
    options.guest.memory = .mebibytes(320)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 96
    options.guest.workload.hotMiB = Self.hotMiB
    options.guest.workload.dirtyMiBPerSecond = 64
    options.guest.workload.verifyMiBPerSecond = 20
    options.linkRate = ByteRate(parsing: "400Mbit")
    return options
  }

  /// Runs `body` with `godwit`'s arguments for the source's agent of a fresh guest.
  private func withGuest(
    _ backend: GuestSpecification.Backend,
    _ body: (_ destination: String, _ socket: String, _ folder: RunFolder) async throws -> Void
  ) async throws {
    let options = options(backend)
    try await LabRun(options: options, observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let session = try await GuestSession.start(
        options: options, commandLine: commandLine, hosts: hosts, folder: folder, label: "plan")
      let source = try await LabAgent.start(.source, session: session)
      let destination = try await LabAgent.start(.destination, session: session)
      let address = "\(hosts.address(.destination)):\(destination.port)"
      try await body(address, source.controlSocket, folder)
      #expect(session.serial.log.errors == 0)
      for agent in [source, destination] { await agent.end() }
      await session.end()
    }
  }

  private func godwit(_ socket: String, _ arguments: String...) async throws -> String {
    try await Command.run(
      try #require(Equipment.program), arguments + ["--control-socket", socket, "--json"],
      timeoutMs: 180_000)
  }

  private func plan(_ destination: String, _ socket: String) async throws -> PlannedGuest {
    let text = try await godwit(
      socket, "plan", Self.name, destination, "--runs", "2", "--strategy", "hotpages", "auto")
    return try JSONDecoder().decode(PlannedGuest.self, from: Data(text.utf8))
  }

  private func expectSane(_ plan: PlannedGuest, source: String) {
    #expect(plan.outcome == "forecast" && plan.guest.source == source)
    #expect(plan.guest.ramPages >= 320 << 8 && plan.guest.sampledPages > 1000)
    #expect(plan.guest.zeroPages.pages > plan.guest.ramPages / 4)
    let curve = plan.guest.dirtyCurve
    #expect(curve.count == 5)
    #expect(zip(curve, curve.dropFirst()).allSatisfy { $0.dirtied.pages <= $1.dirtied.pages })
    // The hot set and what else a guest touches; a slow machine writes less than it was told to.
    if let first = curve.first?.dirtied, let last = curve.last?.dirtied {
      #expect((Self.hotPages / 3...Self.hotPages * 3).contains(last.pages), "\(curve)")
      #expect(first.pages > 0 && first.pages < last.pages, "\(curve)")
      #expect(last.lowPages <= last.pages && last.pages <= last.highPages)
    }
    // 50 MB/s are all that the link lets through.
    #expect((1_000_000...65_000_000).contains(plan.link.bytesPerSecond))
    #expect(plan.link.roundTripUs > 0)
    #expect(plan.forecast.map(\.strategy) == ["hotpages", "auto"])
    #expect(plan.forecast.contains { $0.totalMs != nil } && plan.autoTakes != nil)
  }

  @Test(.timeLimit(.minutes(8))) func memoryOfItsOwn() async throws {
    try await withGuest(.none) { destination, socket, _ in
      expectSane(try await plan(destination, socket), source: "process")
    }
  }

  /// A trace replays, and a forecast stands beside the outcome.
  @Test(.timeLimit(.minutes(8))) func sharedMemory() async throws {
    try await withGuest(.memfd) { destination, socket, folder in
      let file = folder.file("guest.trace")
      let told = try await godwit(
        socket, "trace", Self.name, "--for", "3s", "--every", "250ms", "-o", file)
      #expect(told.contains(#""source":"shared""#))
      let lines = try SmallFile.read(file).split(separator: "\n")
      #expect(lines.first == "godwit-trace 1" && lines.last == "end 12")
      let epochs = lines.filter { $0.hasPrefix("epoch ") }.map { line in
        line.split(separator: " ").dropFirst(2).compactMap { UInt64($0) }.reduce(0, +)
      }
      let mean = epochs.reduce(0, +) / UInt64(max(epochs.count, 1))
      #expect((Self.hotPages / 20...Self.hotPages * 3).contains(mean), "\(epochs)")
      let replayed = try await Command.run(
        try #require(Equipment.program),
        ["simulate", "run", "--trace", file, "--strategy", "hotpages", "--runs", "2", "--json"])
      #expect(replayed.contains(#""completed":2"#), "\(replayed)")

      let text = try await godwit(
        socket, "migrate", Self.name, destination, "--strategy", "hotpages", "--within", "60s",
        "--forecast")
      let record = try JSONDecoder().decode(MigrationRecord.self, from: Data(text.utf8))
      #expect(record.outcome == .completed, "\(record.reason ?? "")")
      let forecast = record.forecast
      let (low, median, high) = try (
        #require(forecast.totalLowMs), #require(forecast.totalMs), #require(forecast.totalHighMs)
      )
      #expect(low <= median && median <= high && low > 0)
      #expect(forecast.plannedDowntimeMs != nil && forecast.downtimeMs != nil)
    }
  }
}

/// What the test reads of `godwit plan --json`.
private struct PlannedGuest: Decodable {
  struct Pages: Decodable { var pages, lowPages, highPages: UInt64 }
  struct Point: Decodable { var dirtied: Pages }
  struct Guest: Decodable {
    var source: String
    var ramPages, sampledPages: UInt64
    var zeroPages: Pages
    var dirtyCurve: [Point]
  }
  struct Link: Decodable { var bytesPerSecond, roundTripUs: UInt64 }
  struct Band: Decodable { var median: Double }
  struct Row: Decodable {
    var strategy: String
    var totalMs: Band?
  }
  var outcome: String
  var autoTakes: String?
  var guest: Guest
  var link: Link
  var forecast: [Row]
}
