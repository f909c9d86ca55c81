import Base
import Glibc
import HostIO
import NBD

/// One client, from the greeting to its end. Runs on a thread of its own.
struct DiskConnection {
  private let server: DiskServer
  private let open: OpenConnection
  private var socket: StreamSocket { open.socket }
  private let secure: DiskServer.Secure?

  init(_ server: DiskServer, _ open: OpenConnection, _ secure: DiskServer.Secure?) {
    (self.server, self.open, self.secure) = (server, open, secure)
  }

  func run() throws {
    defer { socket.shutdown() }
    var connection: any ByteConnection = socket
    var handshake = ServerHandshake(
      exports: server.disks.map(\.export), security: secure == nil ? .none : .required)
    let deadline = Deadline("NBD handshake", ms: server.options.handshakeMs)
    var input = InputBuffer(connection)
    while true {
      switch try negotiate(&handshake, connection, input, deadline) {
      case .aborted, nil: return
      case .transmission(let session):
        connection.setTimeout(ms: 0)
        return try transmit(session, connection, input)
      case .startTLS:
        // Plain bytes behind the request for TLS would be taken for what came encrypted.
        guard input.count == 0, let secure else {
          throw SystemError("TLS with \(socket.peer): bytes before it began", code: EPROTO)
        }
        connection = try secure(socket)
        (handshake, input) = (handshake.afterTLS(), InputBuffer(connection))
      }
    }
  }

  /// nil: the client has gone.
  private func negotiate(
    _ handshake: inout ServerHandshake, _ connection: any ByteConnection, _ input: InputBuffer,
    _ deadline: Deadline
  ) throws -> ServerHandshake.Outcome? {
    while true {
      try deadline.bound(connection)
      var step: (used: Int, outcome: ServerHandshake.Outcome?) = (0, nil)
      do {
        step = try input.look(input.count) { bytes throws(DecodeError) in
          try handshake.receive(bytes)
        }
      } catch {
        try? send(handshake.takeOutput(), connection)
        throw error
      }
      input.drop(step.used)
      if case .transmission(let session) = step.outcome, Self.moves(session),
        !server.takeOver(open, disk: session.index)
      {
        return nil
      }
      try send(handshake.takeOutput(), connection)
      if let outcome = step.outcome { return outcome }
      guard try input.fill() else { return nil }
    }
  }

  /// Whether the client moves a disk to the export.
  private static func moves(_ session: ServerSession) -> Bool {
    let names = session.export.contexts
    return session.contexts.contains { number in
      names.indices.contains(Int(number)) && names[Int(number)] == NBDExtent.mover
    }
  }

  private func send(_ bytes: [UInt8], _ connection: any ByteConnection) throws {
    // SAFETY: the array outlives the call.
    try unsafe connection.writeAll(bytes.span.bytes)
  }

  private func transmit(
    _ session: ServerSession, _ connection: any ByteConnection, _ input: InputBuffer
  ) throws {
    let outlet = ReplyOutlet(connection)
    let link = ConnectionLink(open, server.disks[session.index], session, outlet)
    defer {
      link.waitUntilIdle()
      connection.finish()
    }
    try RequestLoop(input, session, link, server.queue, server.waiting).run()
  }
}
