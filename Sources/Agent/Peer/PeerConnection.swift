import Base
import HostIO
import Wire

/// Opens and greets connections between agents.
enum PeerConnection {
  /// Connects to `peer` (`host[:port]`) and says hello; throws the peer's words when it refuses.
  static func open(
    _ peer: String, _ hello: Hello, security: PeerSecurity, timeoutMs: UInt64
  ) throws -> any ByteConnection {
    guard let (host, port) = TCPSocket.split(peer, defaultPort: TCPSocket.defaultPort) else {
      throw Ending.refused([
        Refusal(.request, "\"\(peer)\" is no address", remedy: "write HOST or HOST:PORT")
      ])
    }
    let socket = try security.client(
      try TCPSocket.connect(host: host, port: port, timeoutMs: timeoutMs), host: host,
      timeoutMs: timeoutMs)
    let frames = FrameSocket(
      BoundedConnection(socket, by: Deadline("greeting", ms: timeoutMs)))
    var payload: [UInt8] = []
    hello.encode(into: &payload)
    try unsafe frames.send(.hello, payload)
    guard let header = try frames.receiveHeader(), header.type == .welcome else {
      throw RelayFailure.protocolViolation("\(peer) does not greet as an agent")
    }
    let text = try frames.receivePayload(of: header)
    guard text.isEmpty else {
      let words = "\(peer) refused: \(String(decoding: text, as: UTF8.self))"
      // The first connection of a migration, or one that nothing depends on: nothing has begun.
      guard [.control, .probe, .warm].contains(hello.role) else { throw Ending.failed(words) }
      throw Ending.refused([
        Refusal(
          .destinationState, words, remedy: "try again later, or change it at the destination")
      ])
    }
    socket.setTimeout(ms: 0)
    return socket
  }

  /// Reads the hello of a connection that came in, all of it within `timeoutMs`: a peer that sends
  /// a byte now and then must not keep its place among those who may say hello.
  static func greet(_ socket: any ByteConnection, timeoutMs: UInt64) throws -> Hello {
    let deadline = MonotonicClock.nowMs + timeoutMs
    let header: FrameHeader
    do {
      let bytes = try receive(socket, FrameHeader.byteCount, deadline: deadline)
      var cursor = unsafe ByteCursor(bytes.span.bytes)
      header = try FrameHeader(decoding: &cursor)
    } catch let error as DecodeError {
      throw RelayFailure.protocolViolation("\(error)")
    }
    guard header.type == .hello else { throw RelayFailure.protocolViolation("no hello") }
    let payload = try receive(socket, header.payloadLength, deadline: deadline)
    try FrameSocket.check(header, unsafe FrameChecksum.of(payload.span.bytes))
    socket.setTimeout(ms: timeoutMs)
    do {
      var cursor = unsafe ByteCursor(payload.span.bytes)
      return try Hello(decoding: &cursor)
    } catch {
      // The peer may be another version: it shall read why.
      welcome(socket, refusal: "\(error)")
      throw RelayFailure.protocolViolation("\(error)")
    }
  }

  /// Reads `count` bytes until `deadline` (`MonotonicClock.nowMs`).
  private static func receive(
    _ socket: any ByteConnection, _ count: Int, deadline: UInt64
  ) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let now = MonotonicClock.nowMs
      guard now < deadline else { throw RelayFailure.peer("no hello in time") }
      socket.setTimeout(ms: deadline - now)
      let got = try unsafe bytes.withUnsafeMutableBytes { raw in
        // SAFETY: done < count, so the slice is inside the array and not empty.
        try unsafe socket.read(into: UnsafeMutableRawBufferPointer(rebasing: raw[done...]))
      }
      guard got > 0 else { throw RelayFailure.peer("closed before its hello") }
      done += got
    }
    return bytes
  }

  /// Answers a hello: nil lets the peer in.
  static func welcome(_ socket: any ByteConnection, refusal: String? = nil) {
    let text = [UInt8]((refusal ?? "").utf8.prefix(1024))
    _ = unsafe try? FrameSocket(socket).send(.welcome, text)
    socket.setTimeout(ms: 0)
    if refusal != nil { socket.shutdown() }
  }
}
