import HostIO

/// The way of disks' blocks out of this host: QEMU, or the server that a disk is behind, connects to a unix socket of
/// the agent's, and each of its connections goes on over one between the agents.
///
/// When the agent dies the socket dies with it: the copies then end, and the guest goes on with its disks.
final class DiskTunnel: Sendable {
  private static let acceptPollMs: UInt64 = 100

  let path: String
  private let tunnels: ByteTunnels
  /// Opened beforehand: QEMU must not wait for the network while it connects.
  private let ready: Guarded<[any ByteConnection]>
  private let dial: (@Sendable () throws -> any ByteConnection)?
  private let isOver = Guarded(false)

  /// - Parameters:
  ///   - owned: a path whose owner may connect, who may be another user; nil: who that is is not known.
  ///   - connections: one for each of those who must not wait.
  ///   - dial: opens a further one; nil: there is none. Blocks.
  ///   - copied: is told what goes by; nil: nobody is.
  ///   - pace: how long to wait before so many bytes are sent, in microseconds.
  init(
    path: String, in directory: String, admitting owned: String?,
    connections: [any ByteConnection] = [],
    dial: (@Sendable () throws -> any ByteConnection)? = nil, copied: CopiedDisks? = nil,
    pace: @escaping @Sendable (UInt64) -> UInt64
  ) throws {
    (self.path, self.dial) = (path, dial)
    (tunnels, ready) = (ByteTunnels(copied: copied, pace: pace), Guarded(connections))
    let listener = try UnixSocket.listen(path: path)
    if let owned { try UnixSocket.admit(ownerOf: owned, to: path, in: directory) }
    _ = WorkerThread("gw-disk-accept") { [self] in
      while !isOver.read({ $0 }) {
        let accepted: StreamSocket
        do {
          guard let next = try listener.accept(timeoutMs: Self.acceptPollMs) else { continue }
          accepted = next
        } catch {
          MonotonicClock.sleep(us: Self.acceptPollMs * 1000)
          continue
        }
        if let far = ready.update({ $0.popLast() }) {
          tunnels.join(accepted, far)
        } else {
          open(accepted)
        }
      }
    }
  }

  /// Goes on over a new connection, on a thread of its own: it takes as long as the network wants.
  private func open(_ accepted: StreamSocket) {
    guard let dial else { return accepted.shutdown() }
    _ = WorkerThread("gw-disk-dial") { [self] in
      do { tunnels.join(accepted, try dial()) } catch { accepted.shutdown() }
    }
  }

  var sentBytes: UInt64 { tunnels.sentBytes }

  /// Ends every connection at once: whoever waits for the network waits no more.
  func cut() {
    isOver.update { $0 = true }
    tunnels.cut()
    for connection in ready.update({ connections in
      defer { connections = [] }
      return connections
    }) { connection.shutdown() }
  }
}
