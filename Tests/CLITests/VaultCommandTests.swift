import ArgumentParser
import Foundation
import Testing

@testable import Agent
@testable import CLI

@Suite struct VaultCommandTests {
  private let path = "/tmp/godwit-vault-\(UUID().uuidString.prefix(8)).sock"

  private func run<Command: AsyncParsableCommand>(
    _: Command.Type, _ arguments: String...
  ) async throws {
    var command = try #require(
      try GodwitCommand.parseAsRoot(["vault"] + arguments + ["--control-socket", path]) as? Command)
    try await command.run()
  }

  @Test(.timeLimit(.minutes(1))) func whatTheAgentAnswersIsShown() async throws {
    try await ScriptedAgent().serve(at: path) { client, _ in
      let items = try await client.vault(VaultRequest(.list))
      #expect(
        VaultReport.table(items).lines == [
          "VM     STATE  TAKEN                 SIZE   OF      USES  ID",
          "web-1  whole  2023-11-14T22:13:20Z  5 MiB  64 MiB  0     001122334455",
        ])
      try await run(VaultListCommand.self, "list", "--json")
      try await run(VaultPruneCommand.self, "prune", "web-1")
      // Scripts learn of damage by the exit status.
      await #expect(throws: ExitCode(1)) { try await run(VaultVerifyCommand.self, "verify") }
      try await run(VaultVerifyCommand.self, "verify", "nobody")
    }
  }

  @Test func everythingIsNotRemovedByTheWay() throws {
    #expect(throws: (any Error).self) {
      try GodwitCommand.parseAsRoot(["vault", "prune", "web-1", "--all"])
    }
    #expect(VaultRequest(.list, all: true).problem != nil)
    #expect(VaultRequest(.prune, all: true).problem == nil)
    let many = [String](repeating: "a", count: VaultRequest.targetsMax + 1)
    #expect(VaultRequest(.verify, targets: many).problem != nil)
  }

  @Test func everyFieldIsThere() throws {
    let line = try JSONLine.encode(VaultItem(id: "1", state: .damaged, bytes: 7))
    #expect(
      line
        == #"{"bytes":7,"id":"1","isSealed":false,"lastUsedAt":null,"pages":null,"problem":null,"ramBytes":null,"state":"damaged","takenAt":null,"uses":0,"uuid":null,"vm":null,"zeroPages":null}"#
    )
  }

  @Test func keepIsAskedFor() throws {
    let command = try #require(
      try GodwitCommand.parseAsRoot(["migrate", "web-1", "host-b", "--keep"]) as? MigrateCommand)
    #expect(command.request.keepMemory)
    var record = MigrationRecord(outcome: .completed)
    var kept = MigrationRecord.Kept()
    (kept.bytes, kept.durationMs) = (300 << 20, 1500)
    record.kept = kept
    #expect(RecordReport.lines(record).contains("  kept here     300 MiB of its memory in 1.5 s"))
    let line = try JSONLine.encode(record)
    #expect(line.contains(#""problem":null"#))
    #expect(try JSONLine.decode(MigrationRecord.self, from: line.utf8) == record)
  }
}
