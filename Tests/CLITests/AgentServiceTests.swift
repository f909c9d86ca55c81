import Foundation
import Glibc
import HostIO
import NIOCore
import NIOPosix
import TestSupport
import Testing

@testable import Agent

/// The built `godwit agent` under something that behaves like systemd.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct AgentServiceTests {
  private let folder = "/tmp/godwit-service-\(UUID().uuidString.prefix(8))"

  private func configure(_ more: String = "") throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let text = """
      listen = "127.0.0.1:0"
      stateDirectory = "\(folder)/state"
      runtimeDirectory = "\(folder)/run"
      definitionsDirectory = "\(folder)/vms"
      metrics = "127.0.0.1:0"
      \(more)

      """
    try text.write(toFile: folder + "/agent.toml", atomically: true, encoding: .utf8)
  }

  /// Waits for a message of `agent` to the service manager that begins so.
  private func message(
    _ start: String, of agent: ChildProcess, _ receiver: DatagramReceiver
  ) async throws -> String {
    while true {
      let exit = agent.exit
      if let text = receiver.text() {
        if text.hasPrefix(start) { return text }
      } else {
        try #require(exit == nil, "the agent ended before it said \(start)")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  @Test(.timeLimit(.minutes(3))) func readyReloadedAndEnded() async throws {
    try configure()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let receiver = try DatagramReceiver()
    let log = open(folder + "/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    defer { close(log) }
    let agent = try ChildProcess(
      "env",
      [
        "NOTIFY_SOCKET=\(receiver.path)", try #require(CommandProcess.binary), "agent",
        "--insecure", "--config", folder + "/agent.toml",
      ], output: log)
    _ = try await message("READY=1", of: agent, receiver)
    #expect(try await ControlClient(path: folder + "/run/agent.sock").version() == .current)

    try configure("outgoingMax = 3\nlogLevel = \"debug\"")
    agent.send(signal: SIGHUP)
    _ = try await message("RELOADING=1\nMONOTONIC_USEC=", of: agent, receiver)
    _ = try await message("READY=1", of: agent, receiver)
    try configure("outgoingMx = 3")
    agent.send(signal: SIGHUP)
    _ = try await message("RELOADING=1", of: agent, receiver)
    _ = try await message("READY=1", of: agent, receiver)
    #expect(try await ControlClient(path: folder + "/run/agent.sock").status().isEmpty)

    agent.send(signal: SIGTERM)
    _ = try await message("STOPPING=1", of: agent, receiver)
    #expect(await agent.wait() == .code(0))
    let text = try String(contentsOfFile: folder + "/log", encoding: .utf8)
    #expect(text.contains("keys=logLevel"))
    #expect(text.contains("did you mean outgoingMax?"))
    #expect(text.contains("metrics open"))
  }

  @Test(.timeLimit(.minutes(4))) func checkTellsWhatIsWrong() async throws {
    try configure("memroyLimit = \"1GiB\"")
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let arguments = ["agent", "check", "--insecure", "--json", "--config", folder + "/agent.toml"]
    let (status, output) = try await CommandProcess(arguments).end()
    #expect(status == 1)
    #expect(output.contains("did you mean memoryLimit?"))
    try configure("allowedPrograms = [\"/bin/sh\"]")
    let second = try await CommandProcess(arguments).end()
    #expect(second.status == 0, "\(second.output)")
  }
}

@Suite struct AcceptedClientTests {
  /// NIO traps when an asynchronous channel is dropped unfinished, as it happens to clients that
  /// connect while a server ends.
  @Test(.timeLimit(.minutes(4))) func oneThatNobodyServesIsClosed() async throws {
    let path = "/tmp/godwit-accepted-\(UUID().uuidString.prefix(8)).sock"
    let listener = try UnixSocket.listen(path: path)
    for isTaken in [false, true] {
      do {
        let client = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
          .connect(unixDomainSocketPath: path) { channel in
            channel.eventLoop.makeCompletedFuture {
              AcceptedClient<ByteBuffer, ByteBuffer>(
                try NIOAsyncChannel(wrappingChannelSynchronously: channel))
            }
          }
        if isTaken {
          try await client.take()?.executeThenClose { _, _ in }
          let isThere = client.take() != nil
          #expect(!isThere)
        }
      }
      let count = try await Blocking.run {
        let socket = try listener.accept()
        var bytes = [UInt8](repeating: 0, count: 16)
        return try bytes.withUnsafeMutableBytes { try socket?.read(into: $0) }
      }
      #expect(count == 0)
    }
  }
}

@Suite struct InheritedControlSocketTests {
  /// A socket of systemd's is served, and left in place for the next agent.
  @Test(.timeLimit(.minutes(4))) func isServedAndOutlivesTheAgent() async throws {
    let path = "/tmp/godwit-inherited-\(UUID().uuidString.prefix(8)).sock"
    let listener = try UnixSocket.listen(path: path)
    for _ in 0..<2 {
      try await ScriptedAgent().serve(at: path, inherited: dup(listener.raw)) { client, _ in
        let version = try await client.version()
        #expect(version == .current)
      }
      #expect(access(path, F_OK) == 0)
    }
  }
}
