import Foundation
import Glibc
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Agent

@Suite struct ControlSocketTests {
  private let path = "/tmp/godwit-control-\(UUID().uuidString.prefix(8)).sock"

  private func serving(
    _ body: @Sendable (ControlClient, ScriptedAgent) async throws -> Void
  ) async throws { try await ScriptedAgent().serve(at: path, body) }

  @Test(.timeLimit(.minutes(1))) func questionsAreAnswered() async throws {
    try await serving { client, agent in
      #expect(try await client.version() == .current)
      #expect(try await client.vms() == [VMSummary(name: "web-1", pid: 42)])
      #expect(try await client.status() == [agent.look("web-1")])
      #expect(try await client.history(limit: 1000).count == 1000)
      try await client.cancel(vm: "web-1")
      #expect(agent.cancelled.withLock { $0 } == ["web-1"])
    }
    #expect(access(path, F_OK) != 0, "the socket is removed at the end")
  }

  @Test(.timeLimit(.minutes(1))) func migrationTellsProgressThenItsRecord() async throws {
    try await serving { client, agent in
      var updates: [MigrationUpdate] = []
      for try await update in client.migrate(MigrationRequest(vm: "web-1", destination: "b")) {
        updates.append(update)
        agent.open()
      }
      #expect(updates.first == .progress(agent.look("web-1")))
      guard case .finished(let record) = updates.last else {
        Issue.record("no record at the end")
        return
      }
      #expect(record.vm == "web-1")
    }
  }

  @Test(.timeLimit(.minutes(1))) func leavingDoesNotEndTheMigration() async throws {
    try await serving { client, agent in
      for try await _ in client.migrate(MigrationRequest(vm: "web-1", destination: "b")) { break }
      #expect(agent.started.withLock { $0 } == 1)
      // Still served, and nobody asked for a cancellation.
      #expect(try await client.status().count == 1)
      #expect(agent.cancelled.withLock { $0 }.isEmpty)
      agent.open()
    }
  }

  @Test(.timeLimit(.minutes(1))) func watchGoesOnUntilTheReaderLeaves() async throws {
    try await serving { client, agent in
      var count = 0
      for try await looks in client.watch() {
        #expect(looks == [agent.look("web-1")])
        count += 1
        if count == 3 { break }
      }
      #expect(count == 3)
    }
  }

  @Test(.timeLimit(.minutes(1))) func errorsKeepTheirMessage() async throws {
    try await serving { client, _ in
      let refused = await #expect(throws: ControlError.self) { try await client.cancel(vm: "x") }
      #expect(refused == ControlError(.refused, "no migration of x runs"))
      let limit = await #expect(throws: ControlError.self) { try await client.history(limit: 0) }
      #expect(limit?.code == .usage)
      var bad = MigrationRequest(vm: "a", destination: "b")
      bad.laneCount = .max
      let stream = client.migrate(bad)
      let lanes = await #expect(throws: ControlError.self) { for try await _ in stream {} }
      #expect(lanes?.code == .usage)
    }
  }

  enum Hostile: String, CaseIterable {
    case nonsense, empty, array, unknownCommand, control, otherVersion, noMigration, tooLong, deep

    var text: String {
      switch self {
      case .nonsense: "nonsense\n"
      case .empty: "{}\n"
      case .array: "[]\n"
      case .unknownCommand: "{\"control\":1,\"command\":\"fly\"}\n"
      case .control: "\u{0}\u{1}\n"
      case .otherVersion: "{\"control\":99,\"command\":\"vms\"}\n"
      case .noMigration: "{\"control\":1,\"command\":\"migrate\"}\n"
      case .tooLong: String(repeating: "x", count: ControlRequest.bytesMax + 1)
      case .deep: String(repeating: "[", count: 60_000) + "\n"
      }
    }
  }

  @Test(.timeLimit(.minutes(1)), arguments: Hostile.allCases)
  func hostileRequestsAreRefused(_ request: Hostile) async throws {
    try await serving { client, _ in
      let answer = try await exchange(client.path, request.text)
      let reply = try JSONLine.decode(ControlReply.self, from: answer.utf8)
      #expect(reply.error != nil)
      let version = try await client.version()
      #expect(version == .current, "the server lives on")
    }
  }

  @Test(.timeLimit(.minutes(1))) func onlyTheOwnerMayConnect() async throws {
    try await serving { client, _ in
      let attributes = try FileManager.default.attributesOfItem(atPath: client.path)
      #expect(attributes[.posixPermissions] as? Int == 0o600)
    }
    #expect(!PeerCredentials(pid: 1, uid: geteuid() &+ 1, gid: 0).mayControl)
    #expect(PeerCredentials(pid: 1, uid: 0, gid: 0).mayControl)
  }

  @Test(.timeLimit(.minutes(1))) func secondAgentIsRefusedAndTheFirstLivesOn() async throws {
    try await serving { client, _ in
      let error = await #expect(throws: ControlError.self) {
        try await ControlSocket.claim(client.path)
      }
      #expect(error?.code == .refused)
      let version = try await client.version()
      #expect(version == .current)
    }
  }

  @Test(.timeLimit(.minutes(1))) func silentClientsAreBounded() async throws {
    try await serving { client, _ in
      // The server takes connections in as it gets to them: a question may get the place of a silent
      // client, which is refused then. So more of them come until there is no place.
      var silent: [any Channel] = []
      var answer: ControlError.Code?
      while answer != .refused {
        silent.append(
          try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(unixDomainSocketPath: client.path).get())
        guard silent.count >= ControlServer<ScriptedAgent>.clientCountMax else { continue }
        do { _ = try await client.version() } catch let error as ControlError {
          answer = error.code
        }
        try #require(silent.count < 3 * ControlServer<ScriptedAgent>.clientCountMax)
      }
      for channel in silent { try? await channel.close() }
      while (try? await client.version()) == nil { try await Task.sleep(for: .milliseconds(10)) }
    }
  }

  @Test(.timeLimit(.minutes(1))) func deadAgentsSocketIsReplaced() async throws {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    try #require(descriptor >= 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    close(descriptor)
    try #require(bound == 0 && access(path, F_OK) == 0, "a killed agent leaves its socket")
    try await serving { client, _ in
      let version = try await client.version()
      #expect(version == .current)
    }
  }

  @Test(.timeLimit(.minutes(1))) func fileInTheWayIsNotTouched() async throws {
    try Data("precious".utf8).write(to: URL(fileURLWithPath: path))
    defer { unlink(path) }
    await #expect(throws: ControlError.self) { try await ControlSocket.claim(path) }
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
  }

  @Test(.timeLimit(.minutes(1))) func nobodyThereIsSaidPlainly() async throws {
    let error = await #expect(throws: ControlError.self) {
      try await ControlClient(path: "/tmp/godwit-nobody.sock").vms()
    }
    #expect(error?.code == .noAgent)
    #expect(error?.message.contains("godwit agent") == true)
  }

  /// Sends raw text, gives all that comes back.
  private func exchange(_ path: String, _ text: String) async throws -> String {
    let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .connect(unixDomainSocketPath: path) { channel in
        channel.eventLoop.makeCompletedFuture {
          try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
        }
      }
    return try await channel.executeThenClose { inbound, outbound in
      try? await outbound.write(ByteBuffer(string: text))
      var answer = ""
      do {
        for try await piece in inbound { answer += String(buffer: piece) }
      } catch is IOError {}  // what the server didn't read resets the connection after the answer
      return answer
    }
  }
}

@Suite struct LineSplitterTests {
  @Test func everySplitGivesTheSameLines() throws {
    let bytes = Array("one\n\ntwo\nthree".utf8)
    for cut in 0...bytes.count {
      var splitter = LineSplitter(bytesMax: 5)
      let lines = try splitter.push(bytes[..<cut]) + splitter.push(bytes[cut...])
      #expect(lines == [Array("one".utf8), Array("two".utf8)])
    }
  }

  @Test func longLineIsRefusedAtOnce() {
    var splitter = LineSplitter(bytesMax: 4)
    #expect(throws: LineSplitter.TooLong.self) { try splitter.push(Array("abcde".utf8)) }
  }
}
