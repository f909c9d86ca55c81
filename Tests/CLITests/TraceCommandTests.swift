import ArgumentParser
import Foundation
import Simulator
import Testing

@testable import Agent
@testable import CLI

@Suite struct TraceCommandTests {
  private let name = "/tmp/godwit-trace-\(UUID().uuidString.prefix(8))"

  @Test(.timeLimit(.minutes(1))) func looksThenTheRecord() async throws {
    try await ScriptedAgent().serve(at: name + ".sock") { client, _ in
      var record: TraceRecord?
      for try await update in client.trace(TraceRequest(vm: "web-1", lengthMs: 2000, epochMs: 500))
      {
        switch update {
        case .look(let look): #expect(look.dirtiedPages == 300 && record == nil)
        case .finished(let finished): record = finished
        }
      }
      #expect(record?.epochs.count == 4 && record?.ramPages == 4000)
      await #expect(throws: ControlError.self) {
        for try await _ in client.trace(TraceRequest(vm: "web-1", lengthMs: 1, epochMs: 500)) {}
      }
      await #expect(throws: ControlError(.refused, "no VM db-1")) {
        for try await _ in client.trace(TraceRequest(vm: "db-1")) {}
      }
    }
  }

  /// What is written replays, and a file stays as it was until then.
  @Test(.timeLimit(.minutes(1))) func theFileReplays() async throws {
    let path = name + ".trace"
    defer { unlink(path) }
    try Data("old".utf8).write(to: URL(filePath: path))
    try await ScriptedAgent().serve(at: name + ".sock") { client, _ in
      let failing = try #require(
        try GodwitCommand.parseAsRoot(
          ["trace", "db-1", "-o", path, "--control-socket", client.path]) as? TraceCommand)
      await #expect(throws: ControlError.self) { try await failing.run() }
      #expect(try Data(contentsOf: URL(filePath: path)) == Data("old".utf8))
      let command = try #require(
        try GodwitCommand.parseAsRoot(
          [
            "trace", "web-1", "-o", path, "--for", "10s", "--json", "--control-socket", client.path,
          ]) as? TraceCommand)
      try await command.run()
    }
    let trace = try TraceFile.read(path)
    #expect(trace.epochs.count == 20 && trace.ramPages == 4000 && trace.zeroPages == 50)
    #expect(trace.epochs.allSatisfy { $0.lengthMs == 500 && $0.dirtiedPages == 300 })
    let replay = try #require(
      try GodwitCommand.parseAsRoot(
        ["simulate", "run", "--trace", path, "--strategy", "precopy", "--runs", "2"])
        as? SimulateRunCommand)
    try await replay.run()
  }

  @Test func numbersThatFitNoGuestAreRefused() {
    var record = TraceRecord(
      vm: "a", source: .shared, sampledPages: 1, ramPages: 100, unseenPages: 0, zeroPages: 0,
      vcpuCount: 1, epochs: [[500, 1, 2, 3, 4, 5, 6, 7, 8]])
    #expect(throws: Never.self) { try DirtyTrace(record) }
    record.epochs = [[500, 101, 0, 0, 0, 0, 0, 0, 0]]
    #expect(throws: ControlError.self) { try DirtyTrace(record) }
    record.epochs = [[500, 1]]
    #expect(throws: ControlError.self) { try DirtyTrace(record) }
    record.epochs = [[]]
    #expect(throws: ControlError.self) { try DirtyTrace(record) }
  }

  @Test func wrongUsage() {
    for arguments in [
      ["a"], ["a", "-o", "x", "--for", "2h"], ["a", "-o", "x", "--every", "10ms"],
      ["a", "-o", "x", "--for", "1s", "--every", "2s"],
    ] {
      #expect(throws: (any Error).self) { try GodwitCommand.parseAsRoot(["trace"] + arguments) }
    }
    #expect(throws: ControlError.self) { try TraceFile.checkWritable("/nowhere/at/all") }
  }
}
