import Base
import Foundation
import HostIO
import Logging
import Strategy
import Testing
import Wire

@testable import Agent

/// Who may say what becomes of a guest that has come, and give it pages.
@Suite(.serialized, .timeLimit(.minutes(4))) struct SourceIdentityTests {
  @Test(
    arguments: [
      (["host-a", "10.0.0.1"], ["HOST-A"], true), (["host-a"], ["host-a.lab", "host-b"], false),
      (["host-a", "127.0.0.1"], ["host-b", "127.0.0.1"], false),
      (["host-a", "localhost", "::1"], ["localhost", "::1"], false),
      // Hosts that are nothing else.
      (["127.0.0.1"], ["127.0.0.1"], true), (["127.0.0.1"], ["host-b", "127.0.0.1"], false),
      (["host-a"], [], false),
      // Over plain TCP, and in a journal without names, nobody is known.
      ([], [], true), ([], ["host-b"], true), (nil, ["host-b"], true),
    ] as [([String]?, [String], Bool)])
  func names(known: [String]?, shown: [String], isAdmitted: Bool) {
    #expect((SourceIdentity(names: known).refusal(of: shown) == nil) == isAdmitted)
  }

  private static let id = MigrationID(high: 0x0123_4567_89ab_cdef, low: 7)

  /// A destination whose agent was started again: PREPARED, brought by host-a, and QEMU is gone.
  private func withPrepared(
    _ records: [JournalRecord] = [.prepared],
    _ body: (AgentUnderAttack, TestHosts, String) async throws -> Void
  ) async throws {
    let hosts = try TestHosts()
    for host in ["host-a", "host-b", "host-c"] { try hosts.add(host) }
    let target = try AgentUnderAttack { $0.tls = hosts.configuration("host-b").tls }
    let directory = target.agent.configuration.journalDirectory
    let journal = try Journal(directory: directory, id: Self.id.description)
    let start = JournalRecord.DestinationStart(
      id: Self.id.description, vm: "web", source: "host-a:1", resumeGuest: true,
      peerNames: ["host-a", "127.0.0.1"])
    let handle = JournalRecord.QEMUHandle(
      pid: .max, processStart: 1, monitorPath: directory + "/none")
    for record in [JournalRecord.destinationStarted(start, handle)] + records {
      try await journal.append(record)
    }
    do { try await body(target, hosts, journal.path) } catch {
      await target.stop()
      throw error
    }
    await target.stop()
  }

  private func settle(
    _ target: AgentUnderAttack, _ hosts: TestHosts, as host: String, _ verdict: CommitVerdict
  ) async -> CommitSettlement? {
    await PeerSettlement.settle(
      id: Self.id, peer: "127.0.0.1:\(target.port)", verdict: verdict, patienceMs: 0,
      security: hosts.security(host),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// What the agent says to a connection for pages; nil: it lets it in.
  private func pull(
    _ target: AgentUnderAttack, _ hosts: TestHosts, as host: String
  ) async throws -> String? {
    let hello = Hello(role: .pull, lane: 0, migration: Self.id, token: Self.id)
    let address = "127.0.0.1:\(target.port)"
    let security = hosts.security(host)
    return try await Blocking.run {
      do {
        try PeerConnection.open(address, hello, security: security, timeoutMs: 30_000).shutdown()
        return nil
      } catch { return "\(error)" }
    }
  }

  @Test(arguments: [CommitVerdict.abort, .commit])
  func onlyTheSourceSaysWhatBecomesOfTheGuest(verdict: CommitVerdict) async throws {
    try await withPrepared { target, hosts, path in
      #expect(await settle(target, hosts, as: "host-c", verdict) == nil)
      #expect(try DestinationStory(Journal.records(at: path)).facts == [.began, .prepared])
      // The same host with another certificate.
      try hosts.add("host-a", names: ["10.9.9.9"])
      let settlement = await settle(target, hosts, as: "host-a", verdict)
      #expect(settlement == (verdict == .commit ? .lost : .gone))
    }
  }

  /// A new migration of the same number would write into the journal of the other, and close it.
  @Test(arguments: ["host-a", "host-c"]) func noMigrationTakesTheJournalOver(host: String)
    async throws
  {
    try await withPrepared { target, hosts, path in
      let before = FileManager.default.contents(atPath: path)
      let hello = Hello(role: .control, lane: 0, migration: Self.id, token: Self.id)
      let (address, security) = ("127.0.0.1:\(target.port)", hosts.security(host))
      await #expect {
        try await Blocking.run {
          try PeerConnection.open(address, hello, security: security, timeoutMs: 30_000)
        }
      } throws: { "\($0)".contains("was here before") }
      #expect(FileManager.default.contents(atPath: path) == before)
    }
  }

  @Test func onlyTheSourceGivesPages() async throws {
    try await withPrepared([.prepared, .resuming, .done(outcome: JournalRecord.outcomeRunning)]) {
      target, hosts, _ in
      let stranger = try await pull(target, hosts, as: "host-c")
      #expect(stranger?.contains("another host brought this migration") == true)
      #expect(try await pull(target, hosts, as: "host-a") == nil)
    }
  }

  /// While the session lives its secret is asked for, too.
  @Test func pagesAreTakenFromTheSessionsOwnSource() async throws {
    let (_, far) = try Sockets.tcpPair()
    let migration = DestinationMigration(
      id: Self.id, socket: far, configuration: AgentConfiguration(),
      logger: Logger(label: "test"))
    let (near, lane) = try Sockets.tcpPair()
    let hello = Hello(role: .pull, lane: 0, migration: Self.id, token: Self.id)
    #expect(migration.admitPull(lane, hello: hello))
    let answers = try await Blocking.run { try AgentUnderAttack.answers(on: near) }
    #expect(answers.map { String(decoding: $0.1, as: UTF8.self) } == ["wrong token"])
    let own = Hello(role: .pull, lane: 0, migration: Self.id, token: migration.token)
    // Nothing is pulled yet.
    #expect(!migration.admitPull(lane, hello: own))
  }

  @Test func aRestartedSourceKnowsTheSecret() throws {
    var start = JournalRecord.SourceStart(
      id: "a", vm: "v", destination: "d", monitorPath: "m", pid: 1, processStart: 1,
      capabilities: [:], parameters: "{}", wasRunning: true, startedAt: 0, keepSource: false)
    #expect(start.pullToken(Self.id) == Self.id)
    let token = MigrationID(high: 1, low: 2)
    start.token = token.description
    #expect(start.pullToken(Self.id) == token)
  }
}
