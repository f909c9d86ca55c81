import Base
import Foundation
import HostIO
import Logging
import Testing
import Wire

@testable import Agent

/// A real agent with a listener, in this process, in a folder of its own.
final class AgentUnderAttack: Sendable {
  let agent: MigrationAgent
  let port: UInt16
  private let folder: URL
  private let running: Task<Void, any Error>

  init(configure: (inout AgentConfiguration) -> Void = { _ in }) throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "gw-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var configuration = AgentConfiguration()
    configuration.stateDirectory = folder.path + "/state"
    configuration.runtimeDirectory = folder.path
    configuration.definitionsDirectory = folder.path + "/vms"
    configuration.listen = "127.0.0.1:0"
    configuration.tls.insecure = true
    configure(&configuration)
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    agent = MigrationAgent(configuration: configuration, history: nil, logger: logger)
    let listener = try PeerListener(agent: agent, logger: logger)
    port = try #require(listener.port)
    running = Task { try await listener.run() }
  }

  func stop() async {
    running.cancel()
    _ = try? await running.value
    try? FileManager.default.removeItem(at: folder)
  }

  func connect() throws -> StreamSocket {
    let socket = try TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 60_000)
    socket.setTimeout(ms: 15_000)
    return socket
  }

  static func hello(
    _ role: Hello.Role = .control, lane: UInt16 = 0, seed: UInt64, token: UInt64 = 0
  ) -> Hello {
    var random = SplitMix64(seed: seed)
    return Hello(
      role: role, lane: lane, migration: MigrationID(using: &random),
      token: MigrationID(high: token, low: token))
  }

  static func frame(_ hello: Hello) -> [UInt8] {
    var payload: [UInt8] = []
    hello.encode(into: &payload)
    return BatchAttackTests.frame(.hello, payload)
  }

  /// What the agent answers to `bytes`, to its close of the connection; heartbeats left out.
  ///
  /// Waits on a thread of its own: the agent's tasks need the cooperative pool that a test runs on.
  func answers(
    to bytes: [UInt8], closing: Bool = true
  ) async throws -> [(FrameType, [UInt8])] {
    try await Blocking.run { [self] () throws -> [(FrameType, [UInt8])] in
      let socket = try connect()
      _ = try? socket.writeAll(bytes.span.bytes)
      if closing { shutdownWrite(socket) }
      return try Self.answers(on: socket)
    }
  }

  static func answers(on socket: any ByteConnection) throws -> [(FrameType, [UInt8])] {
    let frames = FrameSocket(socket)
    var answers: [(FrameType, [UInt8])] = []
    do throws(RelayFailure) {
      while let header = try frames.receiveHeader() {
        let payload = try frames.receivePayload(of: header)
        if header.type != .heartbeat { answers.append((header.type, payload)) }
      }
    } catch {
      // A reset is a close as well; silence is not.
      guard !"\(error)".contains("silent") else { throw error }
    }
    return answers
  }

  /// A peer that follows the protocol: it asks for a VM that nobody knows and reads the refusal.
  func expectGoodPeerIsServed(seed: UInt64 = .random(in: 0..<UInt64.max)) async throws {
    let said = try await Blocking.run { [self] in try refusals(seed: seed) }
    #expect(!said.isEmpty)
  }

  /// What the agent answers to `prepare` for a VM called "nobody". Blocks.
  func refusals(seed: UInt64, security: PeerSecurity? = nil) throws -> [Refusal] {
    let address = "127.0.0.1:\(port)"
    let socket = try PeerConnection.open(
      address, Self.hello(seed: seed), security: security ?? PeerSecurity(agent.configuration),
      timeoutMs: 30_000)
    socket.setTimeout(ms: 15_000)
    let frames = FrameSocket(socket)
    try frames.send(.message, PeerMessageTests.prepare(vm: "nobody").encoded(), number: 1)
    while true {
      guard let header = try frames.receiveHeader() else {
        throw RelayFailure.peer("closed without an answer")
      }
      let payload = try frames.receivePayload(of: header)
      if header.type == .heartbeat { continue }
      guard case .refused(let refusals) = try PeerMessage(decoding: payload) else {
        throw RelayFailure.protocolViolation("not refused")
      }
      return refusals
    }
  }
}
