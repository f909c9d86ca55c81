import HostIO
import Synchronization

/// Stands between two servers on unix sockets, and breaks their connections when it is told to.
final class LinkCutter: Sendable {
  private let open = Mutex<[StreamSocket]>([])
  private let isOver = Mutex(false)

  /// - Parameters:
  ///   - path: socket that is made here.
  ///   - server: socket that each connection goes on to.
  init(at path: String, to server: String) throws {
    let listener = try UnixSocket.listen(path: path)
    _ = WorkerThread("link") { [self] in
      while !isOver.withLock({ $0 }) {
        if let near = try? listener.accept(timeoutMs: 50) { carry(near, server) }
      }
    }
  }

  /// Breaks all connections that are open.
  func cut() {
    let sockets = open.withLock { open in
      defer { open = [] }
      return open
    }
    for socket in sockets { socket.shutdown() }
  }

  func close() {
    isOver.withLock { $0 = true }
    cut()
  }

  private func carry(_ near: StreamSocket, _ server: String) {
    guard let far = try? UnixSocket.connect(path: server) else { return near.shutdown() }
    open.withLock { $0 += [near, far] }
    for (from, to) in [(near, far), (far, near)] {
      _ = WorkerThread("link-pump") {
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
          let count = piece.withUnsafeMutableBytes { (try? from.read(into: $0)) ?? 0 }
          guard count > 0, (try? to.writeAll(piece.span.bytes.extracting(..<count))) != nil else {
            break
          }
        }
        from.shutdown()
        to.shutdown()
      }
    }
  }
}
