public import NIOCore
import NIOPosix
import Synchronization

/// Why a line connection could not be made.
public struct LineTransportError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Code: Hashable, Sendable { case connectFailed, pathTooLong }
  public let code: Code
  public let detail: String

  /// - Parameter detail: what it was about, the socket's path first.
  public init(_ code: Code, detail: String) { (self.code, self.detail) = (code, detail) }

  public var description: String {
    switch code {
    case .connectFailed: "cannot connect to \(detail)"
    case .pathTooLong: "the socket's path is too long: \(detail)"
    }
  }
}

/// A connection to a unix socket that carries lines.
///
/// Lines are handed out one after the other on the connection's event loop; the next bytes are read
/// once the receiver returned, so a slow receiver makes the peer wait and memory stays bounded.
public final class UnixLineTransport: Sendable {
  /// A longer path does not fit into the kernel's `sockaddr_un`.
  public static let pathLengthMax = 107
  /// Bytes that may wait to be written; a peer further behind is stuck.
  public static let unwrittenBytesMax = 16 << 20

  private let channel: any Channel
  private let unwritten = Atomic<Int>(0)

  /// Where the callbacks run, and where timers of this connection belong.
  public var eventLoop: any EventLoop { channel.eventLoop }

  private init(channel: any Channel) { self.channel = channel }

  /// Connects to the unix socket at `path`, within `timeoutMs` milliseconds.
  ///
  /// `onLine` gets each line without its end, `onClose` is called once, last, with the reason or an
  /// empty text when the peer simply closed. A line over `lineLengthMax` bytes closes the connection.
  public static func connect(
    path: String, timeoutMs: UInt64, lineLengthMax: Int,
    onLine: @escaping @Sendable ([UInt8]) -> Void, onClose: @escaping @Sendable (String) -> Void
  ) async throws -> UnixLineTransport {
    guard path.utf8.count <= pathLengthMax else {
      throw LineTransportError(
        .pathTooLong, detail: "\(path) has \(path.utf8.count) bytes, limit \(pathLengthMax)")
    }
    // A day bounds the conversion to nanoseconds.
    let timeout = TimeAmount.milliseconds(Int64(min(timeoutMs, 86_400_000)))
    do {
      let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .connectTimeout(timeout)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandlers([
              ByteToMessageHandler(LineFramer(lengthMax: lineLengthMax)),
              LineReceiver(onLine: onLine, onClose: onClose),
            ])
          }
        }
        .connect(unixDomainSocketPath: path).get()
      return UnixLineTransport(channel: channel)
    } catch let error as IOError {
      throw LineTransportError(.connectFailed, detail: "\(path): \(error.description)")
    } catch {
      throw LineTransportError(.connectFailed, detail: "\(path): \(error)")
    }
  }

  /// Queues one line and its end; never blocks. False: closed, or the peer does not read any more.
  public func send(_ line: String) -> Bool {
    guard channel.isActive else { return false }
    var buffer = channel.allocator.buffer(capacity: line.utf8.count + 1)
    buffer.writeString(line)
    buffer.writeInteger(UInt8(ascii: "\n"))
    let count = buffer.readableBytes
    let waiting = unwritten.add(count, ordering: .relaxed).newValue
    guard waiting <= Self.unwrittenBytesMax else {
      unwritten.subtract(count, ordering: .relaxed)
      return false
    }
    channel.writeAndFlush(buffer).whenComplete { [self] _ in
      unwritten.subtract(count, ordering: .relaxed)
    }
    return true
  }

  /// Closes the connection; `onClose` follows.
  public func close() { channel.close(promise: nil) }

  /// Returns when the connection has ended.
  public func closed() async { try? await channel.closeFuture.get() }

  deinit { channel.close(promise: nil) }
}

private final class LineReceiver: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let onLine: @Sendable ([UInt8]) -> Void
  private let onClose: @Sendable (String) -> Void
  private var reason = ""

  init(
    onLine: @escaping @Sendable ([UInt8]) -> Void, onClose: @escaping @Sendable (String) -> Void
  ) {
    (self.onLine, self.onClose) = (onLine, onClose)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    onLine(Array(unwrapInboundIn(data).readableBytesView))
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if reason.isEmpty { reason = "\(error)" }
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    onClose(reason)
    context.fireChannelInactive()
  }
}
