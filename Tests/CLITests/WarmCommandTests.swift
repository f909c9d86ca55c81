import ArgumentParser
import Foundation
import Testing

@testable import Agent
@testable import CLI

@Suite struct WarmCommandTests {
  private let path = "/tmp/godwit-warm-\(UUID().uuidString.prefix(8)).sock"

  private func command(_ arguments: [String]) throws -> WarmCommand {
    try #require(
      try GodwitCommand.parseAsRoot(["warm"] + arguments + ["--control-socket", path])
        as? WarmCommand)
  }

  @Test(.timeLimit(.minutes(1))) func looksThenThePass() async throws {
    try await ScriptedAgent().serve(at: path) { client, _ in
      var records: [WarmRecord] = []
      for try await update in client.warm(WarmRequest(vm: "web-1", destination: "b")) {
        switch update {
        case .look(let look): #expect(look.ramBytes == 4 << 20 && records.isEmpty)
        case .pass(let record): records.append(record)
        }
      }
      #expect(records.count == 1 && records.first?.sentPages == 600)
      await #expect(throws: ControlError(.refused, "no VM db-1")) {
        for try await _ in client.warm(WarmRequest(vm: "db-1", destination: "b")) {}
      }
      try await command(["web-1", "b"]).run()
      try await command(["web-1", "b", "--json"]).run()
    }
  }

  /// Pass after pass, until the client leaves.
  @Test(.timeLimit(.minutes(1))) func keepsFresh() async throws {
    try await ScriptedAgent().serve(at: path) { client, _ in
      var request = WarmRequest(vm: "web-1", destination: "b")
      request.everyMs = WarmRequest.everyMsMin
      var passes = 0
      for try await update in client.warm(request) {
        guard case .pass = update else { continue }
        passes += 1
        if passes == 2 { break }
      }
      #expect(passes == 2)
    }
  }

  @Test func whatIsAskedFor() throws {
    let plain = try command(["web-1", "b"]).request
    #expect(plain.everyMs == nil && plain.bandwidthBytesPerSecond == 12_500_000)
    let fresh = try command(["web-1", "b", "--keep-fresh", "--bandwidth", "1Gbit"]).request
    #expect(fresh.everyMs == 600_000 && fresh.bandwidthBytesPerSecond == 125_000_000)
    #expect(try command(["a", "b", "--keep-fresh", "--every", "30s"]).request.everyMs == 30_000)
    for wrong in [
      ["a"], ["a", "b", "--every", "30s"], ["a", "b", "--keep-fresh", "--every", "10ms"],
      ["a", "b", "--bandwidth", "1kbit"], ["", "b"], ["a", ""],
    ] {
      #expect(throws: (any Error).self) { try command(wrong) }
    }
  }

  @Test func whatAPersonReads() {
    var look = WarmLook(ramBytes: 4 << 30)
    #expect(WarmCommand.text(look).hasPrefix("0 % of 4"))
    (look.doneBytes, look.etaMs) = (1 << 30, 90_000)
    #expect(WarmCommand.text(look).hasPrefix("25 %"))
    #expect(WarmCommand.text(look).contains("left"))
    let record = WarmRecord(
      vm: "web\u{1B}", destination: "b", sentPages: 1_000_000, heldPages: 2, zeroPages: 3,
      unseenPages: 0, keptPages: 5, keptBytes: 6, wireBytes: 7, durationMs: 8)
    let text = WarmCommand.text(record)
    #expect(text.contains("1,000,000 pages sent, 2 were there") && !text.contains("\u{1B}"))
  }
}
