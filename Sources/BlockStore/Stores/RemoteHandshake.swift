import Glibc
import HostIO
import NBD

/// The handshake with another NBD server, from a client's side.
enum RemoteHandshake {
  /// How long the server may take for each of its answers, in milliseconds.
  private static let answerMs: UInt64 = 10_000

  /// Returns what was agreed on, the connection to go on with, and what has arrived of what follows.
  ///
  /// - Parameter secure: nil: no TLS.
  static func run(
    _ socket: StreamSocket, _ exportName: String, _ secure: RemoteStore.Secure?
  ) throws -> (ClientSession, any ByteConnection, InputBuffer) {
    var wish = ClientHandshake.Wish(exportName: exportName)
    wish.startsTLS = secure != nil
    var handshake = ClientHandshake(wish)
    var connection: any ByteConnection = socket
    var input = InputBuffer(connection)
    var isDone = false
    defer { if !isDone { connection.shutdown() } }
    connection.setTimeout(ms: answerMs)
    while true {
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
      connection.setTimeout(ms: answerMs)
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
