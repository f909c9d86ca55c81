import Agent
import ArgumentParser
import Foundation
import Strategy
import Testing

@testable import CLI

@Suite struct RecoverCommandTests {
  private func item(settled: Bool, needsHuman: Bool) -> RecoveryItem {
    var item = RecoveryItem(id: "ab12", state: "in doubt")
    (item.vm, item.side, item.peer) = ("web-1", "source", "host-b")
    (item.isSettled, item.needsHuman) = (settled, needsHuman)
    item.phase = "committing"
    return item
  }

  @Test func exitStatusSaysWhoIsNeeded() {
    let (done, open) = (
      item(settled: true, needsHuman: false), item(settled: false, needsHuman: false)
    )
    let human = item(settled: false, needsHuman: true)
    #expect(RecoverCommand.status([]) == .done)
    #expect(RecoverCommand.status([done]) == .done)
    #expect(RecoverCommand.status([done, open]) == .failed)
    #expect(RecoverCommand.status([done, open, human]) == .needsHuman)
  }

  @Test func itemsReadWell() {
    #expect(
      RecoverCommand.lines(item(settled: false, needsHuman: true)) == [
        "web-1 to host-b  [migration ab12]", "  needs you: in doubt",
        "  journal: committing; QEMU here: no answer",
      ])
  }

  @Test func decisionsExcludeEachOtherAndNeedATarget() throws {
    for arguments in [["web-1", "--commit", "--abort"], ["--commit"], ["a", "b"]] {
      #expect(throws: (any Error).self) {
        try GodwitCommand.parseAsRoot(["recover"] + arguments)
      }
    }
    let command = try GodwitCommand.parseAsRoot(["recover", "web-1", "--abort"])
    #expect((command as? RecoverCommand)?.decision == .abort)
  }

  @Test(.timeLimit(.minutes(1))) func requestAndDecisionReachTheAgent() async throws {
    let path = "/tmp/godwit-recover-\(UUID().uuidString.prefix(8)).sock"
    try await ScriptedAgent().serve(at: path) { client, _ in
      #expect(try await client.recover(RecoverRequest()).first?.needsHuman == true)
      let settled = try await client.recover(RecoverRequest(target: "web-1", decision: .commit))
      #expect(settled.map(\.isSettled) == [true])
      #expect(try await client.recover(RecoverRequest(target: "db-1")).isEmpty)
    }
  }

  @Test func simulationTellsWhatItSaw() async throws {
    let command = try GodwitCommand.parseAsRoot(
      ["simulate", "commit", "--crashes", "0", "--runs", "3", "--seed", "9"])
    #expect((command as? SimulateCommitCommand)?.seed == 9)
    #expect(throws: (any Error).self) {
      try GodwitCommand.parseAsRoot(["simulate", "commit", "--crashes", "5"])
    }
  }
}
