import HostIO
import NBD
import Synchronization

/// A request that a thread of the pool carries out.
struct RequestJob: Sendable {
  let request: NBDRequest
  /// A read goes on from here: what is before was sent.
  var from: UInt64
  /// A write's data.
  var data: PageBuffer?
  let link: ConnectionLink
}

/// What the threads that work for one connection share.
final class ConnectionLink: Sendable {
  /// Requests in the pool at once, and their bytes: more aren't read from the connection. One that is
  /// larger by itself is let through alone.
  static let requestsMax = 64
  static let bytesMax = 64 << 20

  struct Load: Sendable {
    var requests = 0
    var bytes = 0
  }

  let connection: OpenConnection
  let disk: ServedDisk
  let writer: ReplyWriter
  /// Metadata that the client has asked for, by its number on this connection.
  let contexts: [(id: UInt32, name: String)]
  let outlet: ReplyOutlet
  private let load = Guarded(Load())

  init(
    _ connection: OpenConnection, _ disk: ServedDisk, _ session: ServerSession,
    _ outlet: ReplyOutlet
  ) {
    (self.connection, self.disk, self.outlet) = (connection, disk, outlet)
    writer = ReplyWriter(session.mode)
    let names = session.export.contexts
    contexts = session.contexts.compactMap { id -> (id: UInt32, name: String)? in
      names.indices.contains(Int(id)) ? (id, names[Int(id)]) : nil
    }
  }

  /// Waits until a request of `bytes` may be in memory.
  func admit(_ bytes: Int) {
    outlet.waitForRoom()
    _ = load.wait { load -> Bool? in
      let fits =
        load.requests == 0
        || (load.requests < Self.requestsMax && load.bytes + bytes <= Self.bytesMax)
      guard fits else { return nil }
      load.requests += 1
      load.bytes += bytes
      return true
    }
  }

  func release(_ bytes: Int) {
    load.update {
      $0.requests -= 1
      $0.bytes -= bytes
    }
  }

  func waitUntilIdle() { _ = load.wait { $0.requests == 0 ? true : nil } }

  func fail(_ request: NBDRequest, _ error: StoreError, at: UInt64? = nil) {
    disk.counters.noteError(request.command, error.code)
    var header: [UInt8] = []
    writer.failure(
      cookie: request.cookie, offset: request.offset, error.code, error.message, at: at,
      into: &header)
    outlet.send(header: header)
  }
}

extension RequestJob {
  /// Memory that the job may need, in bytes.
  static func byteCount(_ request: NBDRequest) -> Int {
    request.command == .read || request.command == .write ? Int(request.length) : 0
  }
}
