import HostIO
import Logging
import Wire

/// Settles with the destination what is true about a migration whose connection is gone.
///
/// Only the source decides: it asks its own QEMU and its journal, then tells the destination, which
/// waits. Asking twice does no harm.
enum PeerSettlement {
  static let attemptTimeoutMs: UInt64 = 5000
  /// The destination may have to run the guest first.
  static let answerTimeoutMs: UInt64 = 30_000

  /// Delivers the verdict; nil when the destination could not be reached within `patienceMs`.
  static func settle(
    id: MigrationID, peer: String, verdict: PeerMessage.Verdict, patienceMs: UInt64,
    security: PeerSecurity, logger: Logger
  ) async -> PeerMessage.Settlement? {
    let deadline = MonotonicClock.nowMs + patienceMs
    repeat {
      do {
        return try await Blocking.run { try ask(id: id, peer: peer, verdict: verdict, security) }
      } catch {
        logger.warning("verdict not delivered yet", metadata: ["error": "\(error)"])
      }
      try? await Task.sleep(nanoseconds: 500_000_000)
    } while MonotonicClock.nowMs < deadline
    return nil
  }

  private static func ask(
    id: MigrationID, peer: String, verdict: PeerMessage.Verdict, _ security: PeerSecurity
  ) throws -> PeerMessage.Settlement {
    let hello = Hello(role: .settle, lane: 0, migration: id, token: id)
    let socket = try PeerConnection.open(
      peer, hello, security: security, timeoutMs: attemptTimeoutMs)
    defer { socket.shutdown() }
    socket.setTimeout(ms: answerTimeoutMs)
    let frames = FrameSocket(socket)
    try unsafe frames.send(.message, try PeerMessage.verdict(verdict).encoded())
    guard let header = try frames.receiveHeader(), header.type == .message else {
      throw RelayFailure.peer("\(peer) closed without an answer")
    }
    let payload = try frames.receivePayload(of: header)
    guard case .settled(let settlement) = try PeerMessage(decoding: payload) else {
      throw RelayFailure.protocolViolation("\(peer) answered a verdict with something else")
    }
    return settlement
  }
}
