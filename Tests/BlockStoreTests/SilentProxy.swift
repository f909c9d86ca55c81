import HostIO
import Synchronization

@testable import BlockStore

/// Carries bytes to a server and back until it is told to keep them: connections stay, and nothing comes over them. New
/// ones are closed at once meanwhile.
final class SilentProxy: Sendable {
  private struct State: Sendable {
    var isSilent = false
    /// Becomes silent once so many bytes more were carried; nil: not by itself.
    var untilSilent: Int?
    var isOver = false
  }
  let socket: String
  private let folder: ScratchFolder
  private let server: RunningServer
  private let state = Guarded(State())
  private let open = Mutex<[StreamSocket]>([])

  init(to server: RunningServer) throws {
    self.server = server
    folder = try ScratchFolder()
    socket = folder.path + "/proxy.sock"
    let listener = try UnixSocket.listen(path: socket)
    _ = WorkerThread("proxy") { [weak self] in
      while let proxy = self {
        guard !proxy.state.read({ $0.isOver }) else { return }
        if let near = try? listener.accept(timeoutMs: 50) { proxy.carry(near) }
      }
    }
  }

  func beSilent(_ isSo: Bool) { state.update { $0.isSilent = isSo } }

  /// The same, by itself, once so many bytes were carried from now on.
  func beSilent(after byteCount: Int) { state.update { $0.untilSilent = byteCount } }

  var destination: MoveDestination {
    MoveDestination(uri: "proxy", exportName: "disk") { [socket] in
      try UnixSocket.connect(path: socket)
    }
  }

  func close() {
    state.update { $0.isOver = true }
    for socket in open.withLock({ $0 }) { socket.shutdown() }
  }

  private func carry(_ near: StreamSocket) {
    guard !state.read({ $0.isSilent }), let far = try? UnixSocket.connect(path: server.socket)
    else { return near.shutdown() }
    open.withLock { $0 += [near, far] }
    for (from, to) in [(near, far), (far, near)] {
      _ = WorkerThread("proxy-pump") { [state] in
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
          let count = piece.withUnsafeMutableBytes { (try? from.read(into: $0)) ?? 0 }
          state.update { state in
            guard let left = state.untilSilent else { return }
            state.untilSilent = left > count ? left - count : nil
            state.isSilent = state.isSilent || left <= count
          }
          // What was on its way when the silence began is kept, too.
          while state.wait(until: { $0.isSilent && !$0.isOver ? nil : true }) == nil {}
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
