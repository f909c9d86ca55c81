import HostIO
import Wire

/// Asks a destination whether a guest that was pulled still lacks pages, for a source that has none to give any
/// more. Blocking.
enum PullQuestion {
  enum Answer: Sendable {
    case hasAll, lacksPages, unreachable
  }

  static let timeoutMs: UInt64 = 5000

  static func ask(
    _ peer: String, _ id: MigrationID, token: MigrationID, _ security: PeerSecurity
  ) -> Answer {
    let hello = Hello(role: .pull, lane: 0, migration: id, token: token)
    guard
      let socket = try? PeerConnection.open(peer, hello, security: security, timeoutMs: timeoutMs)
    else { return .unreachable }
    defer { socket.shutdown() }
    socket.setTimeout(ms: timeoutMs)
    let frames = FrameSocket(socket)
    while let header = try? frames.receiveHeader(),
      (try? frames.receivePayload(of: header)) != nil
    {
      switch header.type {
      case .pullDone: return .hasAll
      case .pullRequest: return .lacksPages
      default: continue
      }
    }
    return .unreachable
  }
}
