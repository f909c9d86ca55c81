import Agent
import Base
import Foundation
import HostIO
import Testing

@testable import Lab

/// Two guests that leave the same host at once: what they share, and who can see it.
@Suite(.serialized, .needsEquipment)
struct TwoGuestsTests {
  /// So little that the first one's pass isn't over when the second one's begins: its QEMU may take seconds to start.
  static let bytesPerSecond: UInt64 = 8_000_000
  static let metricsPort = 4790

  private static func guest(
    _ name: String, _ backend: GuestSpecification.Backend = .none
  ) -> LabOptions {
    var options = LabOptions()
    (options.guest.name, options.guest.backend) = (name, backend)
    options.godwitProgram = Equipment.program
    options.guest.memory = .mebibytes(256)
    options.guest.memcachedMiB = nil
    options.guest.workload.memoryMiB = 64
    options.guest.workload.hotMiB = 8
    options.guest.workload.dirtyMiBPerSecond = 1
    options.guest.workload.verifyMiBPerSecond = 50
    return options
  }

  /// Both arrive whole; while they go, each has its share of the bandwidth, the metrics name both, and
  /// the destination shows what the source knows.
  @Test(.timeLimit(.minutes(10))) func shareTheLink() async throws {
    let guests = [Self.guest("first"), Self.guest("second")]
    try await LabRun(options: guests[0], observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let sessions = try await GuestSession.start(together: guests, commandLine, hosts, folder)
      let settings = """
        bandwidth = "\(Self.bytesPerSecond / 1_000_000)MB/s"
        metrics = "\(hosts.address(.source)):\(Self.metricsPort)"
        """
      let source = try await LabAgent.start(.source, session: sessions[0], settings: settings)
      let destination = try await LabAgent.start(.destination, session: sessions[0])
      try LabAgent.files(.destination, sessions[0]).define(sessions[1])

      let moves = sessions.map { session in
        Task { try await Self.move(session, source, to: destination) }
      }
      try await Self.lookAtBoth(source, destination, hosts)
      // No limit any more: a reload while they run.
      try LabAgent.files(.source, sessions[0]).write()
      source.process.send(signal: SIGHUP)
      for move in moves {
        let record = try await move.value
        #expect(record.outcome == .completed, "\(record.reason ?? "")")
        #expect(record.audit.pagesDiffering == 0)
      }
      for session in sessions { try await Self.expectAlive(session) }
      let counters = try await Self.metrics(hosts)
      #expect(
        counters.contains(
          #"godwit_migrations_ended_total{side="source",outcome="completed"} 2"#), "\(counters)")
      for agent in [source, destination] { await agent.end() }
      for session in sessions { await session.end() }
    }
  }

  /// Guests of one image in a gang, one after the other: the second refers to what the first brought, which runs by
  /// then. Its own memory is shared, then private, so that both are read.
  @Test(.timeLimit(.minutes(10)), arguments: [.memfd, .none] as [GuestSpecification.Backend])
  func shareWhatTheyHaveInCommon(backend: GuestSpecification.Backend) async throws {
    let guests = [Self.guest("leader", backend), Self.guest("follower", backend)]
    try await LabRun(options: guests[0], observer: SilentObserver()).withHosts {
      commandLine, hosts, folder in
      let sessions = try await GuestSession.start(together: guests, commandLine, hosts, folder)
      let source = try await LabAgent.start(.source, session: sessions[0])
      let destination = try await LabAgent.start(.destination, session: sessions[0])
      try LabAgent.files(.destination, sessions[0]).define(sessions[1])
      var records: [MigrationRecord] = []
      for session in sessions {
        records.append(try await Self.move(session, source, to: destination, gang: "pair"))
      }
      for record in records {
        #expect(record.outcome == .completed, "\(record.reason ?? "")")
        #expect(record.audit.pagesDiffering == 0)
      }
      #expect(records[0].pages.gang == 0)
      let shared = records[1].pages.gang ?? 0
      #expect(shared > 2000, "\(records[1].pages)")
      #expect((records[1].refetchedPages ?? .max) < shared / 4, "\(records[1])")
      for session in sessions { try await Self.expectAlive(session) }
      for agent in [source, destination] { await agent.end() }
      for session in sessions { await session.end() }
    }
  }

  private static func move(
    _ session: GuestSession, _ source: LabAgent, to destination: LabAgent, gang: String? = nil
  ) async throws -> MigrationRecord {
    var request = MigrationRequest(
      vm: session.options.guest.name,
      destination: "\(session.hosts.address(.destination)):\(destination.port)")
    (request.audit, request.gang) = (true, gang)
    for try await update in ControlClient(path: source.controlSocket).migrate(request) {
      if case .finished(let record) = update { return record }
    }
    throw LabError("the agent went away: \(source.lastWords)")
  }

  /// Looks at both while both are in their first pass, which takes seconds at this rate.
  private static func lookAtBoth(
    _ source: LabAgent, _ destination: LabAgent, _ hosts: HostPair
  ) async throws {
    let clients = [source, destination].map { ControlClient(path: $0.controlSocket) }
    func bulk(_ client: ControlClient) async throws -> [MigrationProgress] {
      let looks = try await client.status().filter { $0.phase == .bulk && $0.wireBytes > 1 << 20 }
      return looks.sorted { $0.vm < $1.vm }
    }
    let deadlineMs = MonotonicClock.nowMs + 60_000
    var before: [MigrationProgress] = []
    while before.count < 2 {
      guard MonotonicClock.nowMs < deadlineMs else {
        throw LabError("not both in their first pass; \(source.lastWords)")
      }
      before = try await bulk(clients[0])
      try await Task.sleep(for: .milliseconds(50))
    }
    let fromMs = MonotonicClock.nowMs
    try await Task.sleep(for: .seconds(3))
    let there = try await clients[1].status().sorted { $0.vm < $1.vm }
    let text = try await metrics(hosts)
    let after = try await bulk(clients[0])
    let tookMs = MonotonicClock.nowMs - fromMs

    try #require(after.map(\.vm) == ["first", "second"])
    let moved = zip(before, after).map { $1.wireBytes - $0.wireBytes }
    // A bucket of each may have been full at the start.
    let most = bytesPerSecond * tookMs / 1000 * 5 / 4 + (4 << 20)
    #expect(moved.reduce(0, +) < most, "\(moved) in \(tookMs) ms")
    #expect(moved.allSatisfy { $0 > 0 })
    #expect(moved[0] < moved[1] * 2 && moved[1] < moved[0] * 2, "\(moved) in \(tookMs) ms")

    #expect(there.map(\.vm) == ["first", "second"])
    for look in there {
      #expect(look.side == "destination")
      #expect(look.ramBytes > 256 << 20 && look.wireBytes > 1 << 20)
      #expect(look.wireBytesPerSecond > 0 && look.remainingBytes > 0)
      #expect((1...900).contains(look.progressPermille))
      #expect(look.etaMs != nil && look.laneCount == 4)
    }

    for vm in ["first", "second"] {
      #expect(
        text.contains { $0.hasPrefix("godwit_migration_data_remaining_bytes{vm=\"\(vm)\"") },
        "\(text)")
    }
    #expect(text.contains(#"godwit_migrations_in_phase{side="source",phase="bulk"} 2"#))
    #expect(text.contains("godwit_agent_ready 1"))
  }

  /// Lines of the source agent's metrics.
  private static func metrics(_ hosts: HostPair) async throws -> [String] {
    let (program, arguments) = hosts.command(
      on: .source, "bash",
      [
        "-c",
        "exec 3<>/dev/tcp/\(hosts.address(.source))/\(metricsPort) && "
          + #"printf 'GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&3 && cat <&3"#,
      ])
    let lines = try await Command.run(program, arguments).split(whereSeparator: \.isNewline)
    #expect(lines.first?.contains("200") == true)
    return lines.map(String.init)
  }

  /// The guest runs at the destination, and found all of its memory whole.
  private static func expectAlive(_ session: GuestSession) async throws {
    let count = session.serial.log.count(from: .destination)
    let deadlineMs = MonotonicClock.nowMs + 60_000
    while session.serial.log.count(from: .destination) < count + 5 {
      guard MonotonicClock.nowMs < deadlineMs else {
        throw LabError("\(session.options.guest.name) does not run at the destination")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(session.serial.log.errors == 0)
  }
}
