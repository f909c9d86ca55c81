import Base
public import Glibc
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// A TLS 1.3 connection for blocking use: one thread reads, one writes, an event loop encrypts.
///
/// TLS proves that the peer has the key of the certificate it showed. Whether that certificate is
/// good enough is not judged here, so that the peer can be told why it isn't: look at
/// `peerCertificates` before any other use.
public final class TLSConnection: ByteConnection {
  public let peer: String
  /// DER, the peer's own first; empty when it showed none.
  public let peerCertificates: [[UInt8]]

  /// Largest piece that is encrypted at once, in bytes.
  static let pieceBytesMax = 256 << 10
  /// Longest wait of `finish` for the peer's close, in milliseconds.
  static let finishTimeoutMs: UInt64 = 2000
  /// Lanes spread over these.
  static let loops = MultiThreadedEventLoopGroup(
    numberOfThreads: min(max(System.coreCount, 2), 8))

  private let channel: any Channel
  private let state: Guarded<TLSState>

  /// Shakes hands over a connected socket, within `timeoutMs`. Blocks.
  ///
  /// The socket's own `shutdown` still ends the connection; nothing else may be done with it.
  public init(
    over socket: StreamSocket, _ credentials: TLSCredentials, timeoutMs: UInt64
  ) throws(TLSError) {
    let (peer, state) = (socket.peer, Guarded(TLSState()))
    // NIO closes what it is given; the socket keeps its own.
    let raw = fcntl(socket.raw, F_DUPFD_CLOEXEC, 0)
    guard raw >= 0 else {
      throw TLSError(.ended, SystemError("use the connection to \(peer)").description)
    }
    let opened = Guarded<Result<any Channel, any Error>?>(nil)
    Self.bootstrap(credentials, state, peer: peer).withConnectedSocket(raw)
      .whenComplete { result in opened.update { $0 = result } }
    guard case .success(let channel) = opened.wait(until: { $0 }) else {
      throw TLSError(.ended, "\(peer) closed the connection before the TLS handshake")
    }
    let handshake = state.wait(timeoutMs: timeoutMs) { state -> TLSState.Handshake? in
      if case .running = state.handshake { nil } else { state.handshake }
    }
    switch handshake {
    case .done: break
    case .failed(let error):
      channel.close(promise: nil)
      throw error
    case .running, nil:
      channel.close(promise: nil)
      throw TLSError(.silent, "\(peer) did not finish the TLS handshake in time")
    }
    (self.peer, self.channel, self.state) = (peer, channel, state)
    peerCertificates = state.read { $0.certificates }
  }

  private static func bootstrap(
    _ credentials: TLSCredentials, _ state: Guarded<TLSState>, peer: String
  ) -> ClientBootstrap {
    ClientBootstrap(group: loops.next())
      .channelOption(ChannelOptions.autoRead, value: false)
      .channelOption(ChannelOptions.maxMessagesPerRead, value: 1)
      .channelOption(
        ChannelOptions.recvAllocator,
        value: FixedSizeRecvByteBufferAllocator(capacity: pieceBytesMax)
      )
      .channelInitializer { channel in
        let verify: NIOSSLCustomVerificationCallback = { shown, promise in
          state.update { $0.certificates = shown.compactMap { try? $0.toDERBytes() } }
          promise.succeed(.certificateVerified)
        }
        return channel.eventLoop.makeCompletedFuture {
          let context = credentials.context
          let handlers = channel.pipeline.syncOperations
          switch credentials.role {
          case .client:
            try handlers.addHandler(
              NIOSSLClientHandler(
                context: context, serverHostname: nil, customVerificationCallback: verify))
          case .server:
            try handlers.addHandler(
              NIOSSLServerHandler(context: context, customVerificationCallback: verify))
          }
          try handlers.addHandler(TLSBridge(state, peer: peer))
        }
      }
  }

  deinit { channel.close(promise: nil) }

  /// Closes in the order of what was written; the event loop sees to it.
  public func shutdown() {
    state.update { state in
      state.isShutDown = true
      state.inbound = []
      state.inboundBytes = 0
    }
    let channel = channel
    channel.eventLoop.execute {
      channel.close(promise: nil)
      channel.read()  // may have been paused
    }
  }

  /// Waits for the peer's close, too, as long as it is there: until then a reset could still take
  /// the last bytes from it.
  public func finish() {
    shutdown()
    _ = state.wait(timeoutMs: Self.finishTimeoutMs) { $0.isClosed ? true : nil }
  }

  public func setTimeout(ms: UInt64) { state.update { $0.timeoutMs = ms } }

  public func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
    let timeoutMs = state.read { $0.timeoutMs }
    let peer = peer
    var wasPaused = false
    let outcome = state.wait(timeoutMs: timeoutMs == 0 ? nil : timeoutMs) {
      state -> Result<Int, SystemError>? in
      if state.isShutDown { return .success(0) }
      if !state.inbound.isEmpty {
        let count = unsafe state.take(into: buffer)
        wasPaused = state.isPaused && state.hasRoom
        if wasPaused { state.isPaused = false }
        return .success(count)
      }
      if let failure = state.failure { return .failure(failure) }
      return state.hasEnded ? .success(0) : nil
    }
    if wasPaused { channel.read() }
    guard let outcome else { throw SystemError("read from \(peer) (silent)", code: ETIMEDOUT) }
    return try outcome.get()
  }

  public func writeAll(_ parts: inout [iovec]) throws(SystemError) {
    // A part at a time would be a record each: headers and their pages belong together.
    var left = unsafe parts.reduce(0) { unsafe $0 + $1.iov_len }
    var (part, offset) = (0, 0)
    while left > 0 {
      let count = min(left, Self.pieceBytesMax)
      try admit(count)
      var piece = channel.allocator.buffer(capacity: count)
      while piece.readableBytes < count {
        let available = unsafe parts[part].iov_len - offset
        let step = min(available, count - piece.readableBytes)
        if step > 0 {
          // SAFETY: the caller's parts stay for the call; offset + step <= iov_len.
          let bytes = unsafe UnsafeRawBufferPointer(
            start: parts[part].iov_base, count: offset + step)
          unsafe piece.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
          offset += step
        }
        if unsafe offset == parts[part].iov_len { (part, offset) = (part + 1, 0) }
      }
      send(piece)
      left -= count
    }
  }

  /// Waits until `count` more bytes may be on their way. A peer that takes some is not silent.
  private func admit(_ count: Int) throws(SystemError) {
    let peer = peer
    while true {
      let (timeoutMs, seen) = state.read { ($0.timeoutMs, $0.outboundTotal) }
      let outcome = state.wait(timeoutMs: timeoutMs == 0 ? nil : timeoutMs) {
        state -> Result<Bool, SystemError>? in
        if let failure = state.failure { return .failure(failure) }
        if state.isShutDown || state.hasEnded {
          return .failure(SystemError("write to \(peer)", code: EPIPE))
        }
        if state.outboundBytes == 0 || state.outboundBytes + count <= TLSState.outboundBytesMax {
          state.outboundBytes += count
          return .success(true)
        }
        return state.outboundTotal != seen ? .success(false) : nil
      }
      guard let outcome else { throw SystemError("write to \(peer)", code: ETIMEDOUT) }
      if try outcome.get() { return }
    }
  }

  private func send(_ piece: ByteBuffer) {
    let (count, peer) = (piece.readableBytes, peer)
    let sent = channel.eventLoop.makePromise(of: Void.self)
    sent.futureResult.whenComplete { [state] result in
      state.update { state in
        state.outboundBytes -= count
        switch result {
        case .success: state.outboundTotal += UInt64(count)
        case .failure(let error): state.fail(TLSBridge.systemError(error, peer))
        }
      }
    }
    channel.writeAndFlush(piece, promise: sent)
  }
}

extension TLSState {
  /// Moves bytes out to the reader; at least one, when there is one.
  mutating func take(into target: UnsafeMutableRawBufferPointer) -> Int {
    var done = 0
    while done < target.count, !inbound.isEmpty {
      let step = min(target.count - done, inbound[0].readableBytes)
      // SAFETY: step bytes are readable in the buffer and free in the target.
      unsafe inbound[0].withUnsafeReadableBytes { bytes in
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[done..<done + step])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<step]))
      }
      inbound[0].moveReaderIndex(forwardBy: step)
      if inbound[0].readableBytes == 0 { inbound.removeFirst() }
      done += step
    }
    inboundBytes -= done
    return done
  }
}
