import HostIO

/// The way of disks' blocks out of this host: QEMU connects to a unix socket of the agent's, and each of its
/// connections goes on over one between the agents, which were opened before.
///
/// When the agent dies the socket dies with it: QEMU's copies then end, and the guest goes on with its disks.
final class DiskTunnel: Sendable {
  private static let acceptPollMs: UInt64 = 100

  let path: String
  private let tunnels: ByteTunnels
  /// Opened beforehand: QEMU must not wait for the network while it connects.
  private let ready: Guarded<[any ByteConnection]>
  private let isOver = Guarded(false)

  /// - Parameters:
  ///   - pid: QEMU's process, which may run as another user; nil: it is not known.
  ///   - connections: one for each disk.
  ///   - pace: how long to wait before so many bytes are sent, in microseconds.
  init(
    path: String, in directory: String, admitting pid: Int32?,
    connections: [any ByteConnection], pace: @escaping @Sendable (UInt64) -> UInt64
  ) throws {
    self.path = path
    (tunnels, ready) = (ByteTunnels(pace: pace), Guarded(connections))
    let listener = try UnixSocket.listen(path: path)
    if let pid { try UnixSocket.admit(pid: pid, to: path, in: directory) }
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
        guard let far = ready.update({ $0.popLast() }) else {
          accepted.shutdown()
          continue
        }
        tunnels.join(accepted, far)
      }
    }
  }

  var sentBytes: UInt64 { tunnels.sentBytes }

  /// Ends every connection at once: whoever waits for the network in QEMU waits no more.
  func cut() {
    isOver.update { $0 = true }
    tunnels.cut()
    for connection in ready.update({ connections in
      defer { connections = [] }
      return connections
    }) { connection.shutdown() }
  }
}
