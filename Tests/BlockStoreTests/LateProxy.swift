import Glibc
import HostIO
import Synchronization

@testable import BlockStore

/// Carries bytes to a server and back, and can keep what the clients of connections that are open now send: it arrives when
/// it is let go, however long they have been gone.
final class LateProxy: Sendable {
  private struct State: Sendable {
    var count = 0
    /// Connections up to this one are kept back.
    var keptUpTo = 0
    var keptBytes = 0
    /// Of those, threads that have ended.
    var endedPumps = 0
    var isOver = false
  }
  let socket: String
  private let folder: ScratchFolder
  private let server: RunningServer
  private let state = Guarded(State())
  private let near = Mutex<[StreamSocket]>([])
  private let far = Mutex<[StreamSocket]>([])

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

  var destination: MoveDestination {
    MoveDestination(uri: "proxy", exportName: "disk") { [socket] in
      try UnixSocket.connect(path: socket)
    }
  }

  /// From now on what comes over the connections that are there is kept back.
  func keep() { state.update { $0.keptUpTo = $0.count } }

  /// Waits until so many bytes are kept back.
  func untilKept(_ byteCount: Int) {
    while state.wait(timeoutMs: 1000, until: { $0.keptBytes >= byteCount ? true : nil }) == nil {}
  }

  /// The clients of those connections see their end; the server doesn't.
  func cut() {
    for socket in near.withLock({ near in
      defer { near = [] }
      return near
    }) { socket.shutdown() }
  }

  /// What was kept back arrives. Returns when the server has nothing to do with it any more.
  func letGo() {
    let count = state.update { state in
      defer { state.keptUpTo = 0 }
      return state.keptUpTo
    }
    let isOver = { (state: inout State) -> Bool? in state.endedPumps >= 2 * count ? true : nil }
    while state.wait(timeoutMs: 1000, until: isOver) == nil {}
  }

  func close() {
    state.update { $0.isOver = true }
    let all = near.withLock { $0 } + far.withLock { $0 }
    for socket in all { socket.shutdown() }
  }

  private func carry(_ near: StreamSocket) {
    guard let far = try? UnixSocket.connect(path: server.socket) else { return near.shutdown() }
    self.near.withLock { $0.append(near) }
    self.far.withLock { $0.append(far) }
    let number = state.update { state in
      state.count += 1
      return state.count
    }
    pump(near, far, number, isFromClient: true)
    pump(far, near, number, isFromClient: false)
  }

  private func pump(
    _ from: StreamSocket, _ to: StreamSocket, _ number: Int, isFromClient: Bool
  ) {
    _ = WorkerThread("proxy-pump") { [state] in
      var piece = [UInt8](repeating: 0, count: 65_536)
      while true {
        let count = piece.withUnsafeMutableBytes { (try? from.read(into: $0)) ?? 0 }
        if isFromClient {
          state.update { if number <= $0.keptUpTo { $0.keptBytes += count } }
          let mayGo = { (state: inout State) -> Bool? in
            number <= state.keptUpTo && !state.isOver ? nil : true
          }
          while state.wait(timeoutMs: 1000, until: mayGo) == nil {}
        }
        guard count > 0, (try? to.writeAll(piece.span.bytes.extracting(..<count))) != nil else {
          break
        }
      }
      // The server's end shows that it has done everything.
      if isFromClient { _ = Glibc.shutdown(to.raw, Int32(SHUT_WR)) } else { to.shutdown() }
      state.update { $0.endedPumps += 1 }
    }
  }
}
