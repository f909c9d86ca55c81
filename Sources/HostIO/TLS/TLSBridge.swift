import Glibc
import NIOCore
import NIOSSL
import NIOTLS

/// What the event loop and the blocking callers of a `TLSConnection` share.
struct TLSState: Sendable {
  enum Handshake: Sendable {
    case running
    case done
    case failed(TLSError)
  }

  /// Decrypted bytes that wait for the reader; beyond this many the socket is not read.
  static let inboundBytesMax = 512 << 10
  /// Bytes written and not yet taken by the kernel, beyond which writers wait. What waits here is
  /// downtime when the guest stops.
  static let outboundBytesMax = 1 << 20

  var handshake = Handshake.running
  /// What the peer showed, DER, its own first.
  var certificates: [[UInt8]] = []

  /// Invariant: no empty buffer; `inboundBytes` is the sum of what is readable.
  var inbound: [ByteBuffer] = []
  var inboundBytes = 0
  /// The loop waits for the reader and must be told when there is room.
  var isPaused = false

  var outboundBytes = 0
  /// Bytes that the kernel has taken since the start: whether a slow peer makes progress.
  var outboundTotal: UInt64 = 0

  /// The peer has closed in order: nothing is missing.
  var hasEnded = false
  var failure: SystemError?
  var isShutDown = false
  /// The channel is gone: nothing more can be sent or received.
  var isClosed = false
  /// Milliseconds; 0: for ever.
  var timeoutMs: UInt64 = 0

  var hasRoom: Bool { inboundBytes < Self.inboundBytesMax }

  mutating func fail(_ error: SystemError) {
    if failure == nil, !hasEnded { failure = error }
  }
}

/// The last handler of the channel: hands bytes and endings to the blocking side.
final class TLSBridge: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let state: Guarded<TLSState>
  private let peer: String

  init(_ state: Guarded<TLSState>, peer: String) { (self.state, self.peer) = (state, peer) }

  func channelActive(context: ChannelHandlerContext) {
    context.read()
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let buffer = unwrapInboundIn(data)
    guard buffer.readableBytes > 0 else { return }
    state.update { state in
      guard !state.isShutDown else { return }
      state.inbound.append(buffer)
      state.inboundBytes += buffer.readableBytes
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    // After a shutdown reading goes on, for the peer's close.
    let isReading = state.update { state in
      state.isPaused = !state.hasRoom && !state.isShutDown
      return !state.isPaused
    }
    if isReading { context.read() }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case TLSUserEvent.handshakeCompleted: state.update { $0.handshake = .done }
    case TLSUserEvent.shutdownCompleted:
      state.update { if $0.failure == nil { $0.hasEnded = true } }
    default: context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let peer = peer
    state.update { state in
      if case .running = state.handshake {
        state.handshake = .failed(.handshake(error, with: peer))
      }
      state.fail(Self.systemError(error, peer))
    }
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    let peer = peer
    state.update { state in
      if case .running = state.handshake {
        state.handshake = .failed(
          TLSError(.ended, "\(peer) closed the connection during the TLS handshake"))
      }
      state.fail(SystemError("connection to \(peer) (closed)", code: ECONNRESET))
      state.isClosed = true
    }
    context.fireChannelInactive()
  }

  static func systemError(_ error: any Error, _ peer: String) -> SystemError {
    switch error {
    case let error as IOError:
      SystemError("connection to \(peer)", code: error.errnoCode)
    case NIOSSLError.uncleanShutdown:
      // Without the peer's close nobody knows whether the end was cut off.
      SystemError("connection to \(peer) (cut off, no TLS close)", code: ECONNRESET)
    case is ChannelError:
      SystemError("connection to \(peer) (closed)", code: ECONNRESET)
    default:
      SystemError("connection to \(peer) (TLS: \(TLSError.reason("\(error)")))", code: EPROTO)
    }
  }
}
