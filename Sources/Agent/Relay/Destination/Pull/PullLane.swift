import Base
import HostIO
import Wire

/// One connection of a pull at the destination.
final class PullLane: Sendable {
  private let frames: FrameSocket
  private let over = Guarded(false)

  init(_ socket: any ByteConnection) { frames = FrameSocket(socket) }

  var isOver: Bool { over.read { $0 } }

  func shutdown() {
    over.update { $0 = true }
    frames.socket.shutdown()
  }

  func send(_ requests: [PullRequest]) throws(RelayFailure) {
    var payload: [UInt8] = []
    PullRequests(requests).encode(into: &payload)
    try unsafe frames.send(.pullRequest, payload)
  }

  func send(_ done: PullDone) throws(RelayFailure) {
    var payload: [UInt8] = []
    done.encode(into: &payload)
    try unsafe frames.send(.pullDone, payload)
  }

  func sendHeartbeat() throws(RelayFailure) {
    var payload: [UInt8] = []
    Heartbeat(receivedThrough: 0).encode(into: &payload)
    try unsafe frames.send(.heartbeat, payload)
  }

  enum Arrival {
    case pages(BatchHeader, PageBuffer?)
    /// Pages that were made small, none of them of what is here.
    case packed(EncodedHeader, PageBuffer)
    /// What proves pages that may be here.
    case identities(PullIdentities)
    /// Which pages are hot.
    case heat(PullHeat)
  }

  /// What comes next; nil at the end of the connection.
  func receive() throws(RelayFailure) -> Arrival? {
    while let header = try frames.receiveHeader() {
      switch header.type {
      case .heartbeat: _ = try frames.receivePayload(of: header)
      case .pages:
        let batch = try frames.receiveBatch(header) { PageBuffer(byteCount: $0) }
        return .pages(batch.header, batch.buffer)
      case .encodedPages:
        let batch = try frames.receiveEncoded(header) { PageBuffer(byteCount: $0) }
        guard batch.header.isSelfContained else {
          throw .protocolViolation("pages of a pull that refer to what is here")
        }
        return .packed(batch.header, batch.body)
      case .pullIdentities, .pullHeat:
        let payload = try frames.receivePayload(of: header)
        do throws(DecodeError) {
          var cursor = unsafe ByteCursor(payload.span.bytes)
          guard header.type == .pullHeat else {
            return .identities(try PullIdentities(decoding: &cursor))
          }
          return .heat(try PullHeat(decoding: &cursor))
        } catch {
          throw .protocolViolation("\(error)")
        }
      default: throw .protocolViolation("\(header.type) frame in a pull")
      }
    }
    return nil
  }
}
