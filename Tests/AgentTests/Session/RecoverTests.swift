import Foundation
import HostIO
import Logging
import Strategy
import Testing

@testable import Agent

/// `recover` over journals as a dead agent leaves them. Their QEMUs are gone, their peers answer nothing.
@Suite struct RecoverTests {
  private let directory = NSTemporaryDirectory() + "/godwit-recover-\(UUID().uuidString)"
  private let id = String(repeating: "0123456789abcdef", count: 2)

  private func agent() -> MigrationAgent {
    var configuration = AgentConfiguration()
    configuration.stateDirectory = directory
    configuration.runtimeDirectory = directory + "/run"
    return MigrationAgent(
      configuration: configuration, history: nil,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  /// A process that is not there: no process id is that large.
  private let gone: Int32 = .max

  private var sourceBegan: JournalRecord {
    .sourceBegan(
      .init(
        id: id, vm: "web-1", destination: "127.0.0.1:1", monitorPath: directory + "/none.qmp",
        pid: gone, processStart: 1, capabilities: [:], parameters: "{}", wasRunning: true,
        startedAt: 0, keepSource: false))
  }

  private func write(_ records: [JournalRecord]) async throws -> String {
    let journal = try Journal(directory: directory + "/journal", id: id)
    for record in records { try await journal.append(record) }
    return journal.path
  }

  @Test(.timeLimit(.minutes(1))) func commitInDoubtNeedsAPersonAndTakesOne() async throws {
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let path = try await write([sourceBegan, .committing])
    let agent = agent()
    let item = try #require(try await agent.recover(RecoverRequest()).first)
    #expect((item.vm, item.side, item.peer) == ("web-1", "source", "127.0.0.1:1"))
    #expect((item.phase, item.qemu) == ("committing", "gone"))
    #expect(item.needsHuman && !item.isSettled)
    #expect(item.choices.map(\.decision) == [.commit, .abort, .forget])
    let refusal = await agent.unsettledRefusal(of: "web-1") { $1.vm == "web-1" }
    #expect(refusal?.description.contains(id) == true)

    // Decided, but the destination does not answer: what was decided stays in the journal.
    let decided = try await agent.recover(RecoverRequest(target: "web-1", decision: .commit))
    #expect(decided.first?.choices.map(\.decision) == [.abort, .forget])
    let story = SourceStory(try Journal.records(at: path))
    #expect(story.facts == [.began, .committing, .committed])

    let id = String(id.prefix(8))
    let forgotten = try await agent.recover(RecoverRequest(target: id, decision: .forget))
    #expect(forgotten.first?.isSettled == true)
    #expect(try await agent.recover(RecoverRequest()).isEmpty)
    #expect(await agent.unsettledRefusal(of: "web-1") { $1.vm == "web-1" } == nil)
  }

  @Test(.timeLimit(.minutes(1))) func preparedGuestWhoseQEMUIsGoneSettlesItself() async throws {
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let start = JournalRecord.DestinationStart(
      id: id, vm: "web-1", source: "host-a:1", resumeGuest: true)
    let handle = JournalRecord.QEMUHandle(
      pid: gone, processStart: 1, monitorPath: directory + "/none.qmp")
    let path = try await write([
      .destinationBegan(start), .destinationStarted(start, handle), .prepared,
    ])
    let agent = agent()
    let item = try #require(try await agent.recover(RecoverRequest()).first)
    #expect(item.isSettled && !item.needsHuman && item.side == "destination")
    #expect(DestinationStory(try Journal.records(at: path)).facts.outcome == .lost)
    // The source hears it, however often it asks.
    for _ in 0..<2 {
      let answer = try await DestinationRecovery(id: id, agent: agent).carryOut(.commit)
      #expect(answer == .lost)
    }
  }

  @Test func destinationWithoutAJournalVouchesForNothing() async throws {
    let recovery = DestinationRecovery(id: id, agent: agent())
    #expect(try await recovery.carryOut(.commit) == .unknown)
    #expect(try await recovery.carryOut(.abort) == .gone)
  }

  @Test func damagedJournalIsShownAndNeverActedUpon() async throws {
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let path = try await write([sourceBegan, .committing, .committed])
    var bytes = try #require(FileManager.default.contents(atPath: path))
    bytes[bytes.count - 3] ^= 1
    try bytes.write(to: URL(fileURLWithPath: path))
    let agent = agent()
    let item = try #require(try await agent.recover(RecoverRequest(target: "web-1")).first)
    #expect(item.needsHuman && item.choices.map(\.decision) == [.forget])
    #expect(item.phase == "committing" && item.state.contains("damaged"))
    #expect(await agent.unsettledRefusal(of: "web-1") { $1.vm == "web-1" } != nil)
    #expect(FileManager.default.contents(atPath: path) == bytes)
    await #expect(throws: JournalDamage.self) {
      try await DestinationRecovery(id: id, agent: agent).carryOut(.commit)
    }
    let forgotten = try await agent.recover(RecoverRequest(target: "web-1", decision: .forget))
    #expect(forgotten.first?.isSettled == true)
    #expect(FileManager.default.contents(atPath: path + ".forgotten") == bytes)
    #expect(try await agent.recover(RecoverRequest()).isEmpty)
  }

  /// Its recovery may still end a migration of that QEMU, or run the guest: nobody else's may begin before it is over.
  @Test(
    arguments: [
      ([], true), ([.committing], true), ([.committing, .committed, .reclaiming], true),
      ([.takenBack], false), ([.done(outcome: "takenBack")], false),
    ] as [([JournalRecord], Bool)]) func aGuestMovesAgainOnceItIsSettled(
      records: [JournalRecord], isOpen: Bool
    ) async throws
  {
    defer { try? FileManager.default.removeItem(atPath: directory) }
    _ = try await write([sourceBegan] + records)
    let refusal = await agent().unsettledRefusal(of: "web-1") { $1.vm == "web-1" }
    #expect((refusal != nil) == isOpen)
  }

  @Test func decisionsAreAboutOneMigration() async throws {
    let agent = agent()
    await #expect(throws: RecoverError.self) {
      try await agent.recover(RecoverRequest(target: "nobody"))
    }
    await #expect(throws: RecoverError.self) {
      try await agent.recover(RecoverRequest(decision: .commit))
    }
  }
}
