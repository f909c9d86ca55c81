import Foundation
import Glibc
import HostIO
import Synchronization
import Testing

@testable import Agent

/// The built program as scripts see it: exit status, output, signals.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct CommandProcessTests {
  private let path = "/tmp/godwit-command-\(UUID().uuidString.prefix(8)).sock"

  private func migrate(_ client: ControlClient, _ options: String...) throws -> CommandProcess {
    try CommandProcess(["migrate", "web-1", "b", "--control-socket", client.path] + options)
  }

  @Test(.timeLimit(.minutes(4))) func jsonPrintsTheRecordAlone() async throws {
    try await ScriptedAgent().serve(at: path) { client, agent in
      agent.open()
      let (status, output) = try await migrate(client, "--json").end()
      #expect(status == 0)
      let lines = output.split(separator: "\n")
      #expect(lines.count == 1)
      let record = try JSONLine.decode(
        MigrationRecord.self, from: try #require(lines.first).utf8)
      #expect(record.outcome == .completed)
    }
  }

  @Test(.timeLimit(.minutes(4))) func firstInterruptCancelsAndWaits() async throws {
    try await ScriptedAgent().serve(at: path) { client, agent in
      let command = try migrate(client)
      try await agent.untilStarted()
      command.interrupt()
      let (status, _) = await command.end()
      #expect(status == Agent.ExitStatus.cancelled.rawValue)
      #expect(agent.cancelled.withLock { $0 } == ["web-1"])
    }
  }

  @Test(.timeLimit(.minutes(4))) func secondInterruptLeavesTheMigrationAlone() async throws {
    try await ScriptedAgent(endsWhenCancelled: false).serve(at: path) { client, agent in
      let command = try migrate(client)
      try await agent.untilStarted()
      command.interrupt()
      while agent.cancelled.withLock({ $0.isEmpty }) {
        try await Task.sleep(for: .milliseconds(10))
      }
      command.interrupt()
      #expect(await command.end().status == 130)
      agent.open()
    }
  }

  @Test(
    .timeLimit(.minutes(4)),
    arguments: [
      (["migrate", "web-1", "b", "--lanes", "0"], Agent.ExitStatus.usage),
      (["fly"], .usage),
      (["migrate", "web-1"], .usage),
      (["vms", "--control-socket", "/tmp/godwit-nobody.sock"], .failed),
      (["agent", "--config", "/tmp/godwit-no-such.toml"], .failed),
      (["--help"], .done),
      (["help", "migrate"], .done),
      (["--generate-completion-script", "bash"], .done),
    ])
  func exitStatusIsTheDocumentedOne(_ arguments: [String], _ expected: Agent.ExitStatus)
    async throws
  {
    #expect(try await CommandProcess(arguments).end().status == expected.rawValue)
  }
}

/// A run of the built program.
final class CommandProcess: Sendable {
  /// `GODWIT_BINARY`, else what `swift build` left beside the tests.
  static let binary: String? = {
    let given = ProcessInfo.processInfo.environment["GODWIT_BINARY"]
    let built = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appending(path: "godwit").path
    return [given, built, ".build/debug/godwit"].compactMap(\.self)
      .first { access($0, X_OK) == 0 }
  }()

  private let process: ChildProcess
  /// Standard output. A file, so that no reader is needed while the program runs.
  private let output = "/tmp/godwit-command-\(UUID().uuidString.prefix(8)).out"

  init(_ arguments: [String]) throws {
    let script = "exec \"$0\" \"$@\" >'\(output)' 2>/dev/null"
    process = try ChildProcess("sh", ["-c", script, try #require(Self.binary)] + arguments)
  }

  func interrupt() { send(signal: SIGINT) }

  func send(signal: Int32) { process.send(signal: signal) }

  func end() async -> (status: Int32, output: String) {
    let exit = await process.wait()
    let text = try? String(contentsOfFile: output, encoding: .utf8)
    try? FileManager.default.removeItem(atPath: output)
    guard case .code(let status) = exit else { return (-1, "\(exit)") }
    return (status, text ?? "")
  }
}

extension ChildProcess {
  /// Ends it with SIGTERM, however long it takes to leave everything in order; one that hangs is killed.
  func stop() async { await terminate(graceMs: 60_000) }
}

extension ScriptedAgent {
  /// A command waits for signals before it asks for anything.
  func untilStarted() async throws {
    while started.withLock({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(10)) }
  }
}
