import Foundation
import HostIO
import Logging
import Strategy
import Testing

@testable import Agent

/// What earlier agents left behind is settled side by side.
@Suite(.serialized, .timeLimit(.minutes(2))) struct RecoveryServiceTests {
  private let directory = NSTemporaryDirectory() + "/godwit-recovery-\(UUID().uuidString)"

  /// The first journal's peer takes the connection and says nothing; the one behind it needs no peer.
  @Test func aSilentPeerHoldsUpNobodyElse() async throws {
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    var configuration = AgentConfiguration()
    configuration.stateDirectory = directory
    configuration.runtimeDirectory = directory + "/run"
    configuration.tls.insecure = true
    let agent = MigrationAgent(
      configuration: configuration, history: nil,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })

    let silent = String(repeating: "0", count: 31) + "1"
    let other = String(repeating: "0", count: 31) + "2"
    let journal = try Journal(directory: configuration.journalDirectory, id: silent)
    try await journal.append(
      .sourceBegan(
        .init(
          id: silent, vm: "web-1", destination: "127.0.0.1:\(port)",
          monitorPath: directory + "/none.qmp", pid: .max, processStart: 1, capabilities: [:],
          parameters: "{}", wasRunning: true, startedAt: 0, keepSource: false)))
    for record in [JournalRecord.committing, .committed] { try await journal.append(record) }
    let start = JournalRecord.DestinationStart(
      id: other, vm: "web-2", source: "host-a:1", resumeGuest: true)
    let began = try Journal(directory: configuration.journalDirectory, id: other)
    try await began.append(.destinationBegan(start))

    let service = RecoveryService(agent: agent)
    let running = Task { try await service.run() }
    let asked = try await Blocking.run { try listener.accept(timeoutMs: 30_000) }
    let peer = try #require(asked)
    var outcome: DestinationOutcome?
    let deadline = MonotonicClock.nowMs + 30_000
    while outcome == nil, MonotonicClock.nowMs < deadline {
      outcome = DestinationStory(try Journal.records(at: began.path)).facts.outcome
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(outcome == .discarded)
    // Nobody has given the silent peer up by then: the one was settled while the other waited.
    let isOpen = try await Blocking.run { Self.isOpen(peer) }
    #expect(isOpen)
    peer.shutdown()
    running.cancel()
    _ = try? await running.value
  }

  /// Reads what has come; false when the other end has closed.
  private static func isOpen(_ socket: StreamSocket) -> Bool {
    socket.setTimeout(ms: 50)
    var room = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = try? room.withUnsafeMutableBytes { try socket.read(into: $0) }
      guard let count else { return true }
      if count == 0 { return false }
    }
  }
}
