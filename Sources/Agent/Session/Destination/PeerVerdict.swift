import HostIO
import Logging
import QMP
import Strategy
import Wire

/// The destination's side of a settlement: carries a verdict out and says what is true here.
enum PeerVerdict {
  /// Serves a `settle` connection: one verdict, one answer.
  static func serve(_ id: MigrationID, _ socket: any ByteConnection, agent: MigrationAgent) async {
    do {
      let verdict = try await Blocking.run {
        PeerConnection.welcome(socket)
        socket.setTimeout(ms: PeerSettlement.attemptTimeoutMs)
        return try receive(socket)
      }
      let settlement = try await carryOut(verdict, id, agent)
      let payload = try PeerMessage.settled(settlement).encoded()
      try await Blocking.run { try unsafe FrameSocket(socket).send(.message, payload) }
    } catch {
      agent.logger.warning(
        "verdict not carried out", metadata: ["migration": "\(id)", "error": "\(error)"])
    }
    socket.shutdown()
  }

  private static func receive(_ socket: any ByteConnection) throws -> PeerMessage.Verdict {
    let frames = FrameSocket(socket)
    guard let header = try frames.receiveHeader(), header.type == .message,
      case .verdict(let verdict) = try PeerMessage(
        decoding: try frames.receivePayload(of: header))
    else { throw RelayFailure.protocolViolation("no verdict") }
    return verdict
  }

  private static func carryOut(
    _ verdict: PeerMessage.Verdict, _ id: MigrationID, _ agent: MigrationAgent
  ) async throws -> PeerMessage.Settlement {
    if let migration = await agent.incomingMigration(id) {
      let settlement: CommitSettlement? = await withCheckedContinuation { continuation in
        let isTaken = migration.mailbox.put(
          .verdict(verdict) { continuation.resume(returning: $0) })
        if !isTaken { continuation.resume(returning: nil) }
      }
      if let settlement { return settlement }
    }
    // The session has ended, or its agent: the journal knows. Who asks for a person asks once.
    return try await agent.exclusively(
      id.description, patienceMs: PeerSettlement.answerTimeoutMs / 2
    ) {
      try await DestinationRecovery(id: id.description, agent: agent).carryOut(verdict)
    }
  }
}
