import Glibc
import HostIO
import NBD

/// The handshake with another NBD server, from a client's side.
enum RemoteHandshake {
  /// How long all of it may take, in milliseconds: some round trips, TLS among them, to a server that is in a hurry for
  /// nobody. With the time-out of TLS itself at most half as long again.
  static let limitMs: UInt64 = 20_000

  /// Returns what was agreed on, the connection to go on with, and what has arrived of what follows.
  ///
  /// - Parameters:
  ///   - secure: nil: no TLS.
  ///   - contexts: asked for beside `base:allocation`.
  ///   - limitMs: for all of it, in milliseconds.
  static func run(
    _ socket: StreamSocket, _ exportName: String, _ secure: RemoteStore.Secure?,
    contexts: [String] = [], limitMs: UInt64 = RemoteHandshake.limitMs
  ) throws -> (ClientSession, any ByteConnection, InputBuffer) {
    var wish = ClientHandshake.Wish(exportName: exportName)
    wish.startsTLS = secure != nil
    wish.contexts += contexts
    var handshake = ClientHandshake(wish)
    var connection: any ByteConnection = socket
    var input = InputBuffer(connection)
    var isDone = false
    defer { if !isDone { connection.shutdown() } }
    let deadline = Deadline("NBD handshake", ms: limitMs)
    while true {
      try deadline.bound(connection)
      guard try input.fill() else {
        throw SystemError("NBD handshake with \(connection.peer) (ended)", code: ECONNRESET)
      }
      let step = try input.look(input.count) { bytes throws(ClientError) in
        try handshake.receive(bytes)
      }
      input.drop(step.used)
      try send(handshake.takeOutput(), connection)
      if let session = step.session {
        connection.setTimeout(ms: 0)
        isDone = true
        return (session, connection, input)
      }
      guard handshake.isReadyForTLS, let secure else { continue }
      // Plain bytes behind the agreement would be taken for what came encrypted.
      guard input.count == 0 else {
        throw SystemError("TLS with \(socket.peer): bytes before it began", code: EPROTO)
      }
      connection = try secure(socket)
      try deadline.bound(connection)
      (handshake, input) = (handshake.afterTLS(), InputBuffer(connection))
      // It speaks first now.
      try send(handshake.takeOutput(), connection)
    }
  }

  private static func send(_ bytes: [UInt8], _ connection: any ByteConnection) throws {
    // SAFETY: the array outlives the call.
    try unsafe connection.writeAll(bytes.span.bytes)
  }
}
