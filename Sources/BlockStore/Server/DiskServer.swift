public import HostIO
import NBD
import Synchronization

/// Serves disks over NBD: a thread for each connection, and a pool for what has to wait.
public final class DiskServer: Sendable {
  /// Bounds of a server, for all its disks together.
  public struct Options: Sendable {
    /// Threads of the pool, for all connections together.
    public var threadCount = 16
    public var connectionsMax = 64
    /// Time for one handshake, in milliseconds.
    public var handshakeMs: UInt64 = 20_000
    public init() {}
  }

  /// Makes TLS of a connection whose client has asked for it; throws when the client isn't let in.
  public typealias Secure = @Sendable (StreamSocket) throws -> any ByteConnection

  let disks: [ServedDisk]
  let options: Options
  let queue = JobQueue<RequestJob>()
  let waiting = WaitingPool()
  private let log: @Sendable (String) -> Void
  private let state = Guarded(State())
  private let pool: [WorkerThread]

  private struct State {
    var isDraining = false
    var nextID: UInt64 = 1
    var connections: [UInt64: OpenConnection] = [:]
    /// Those over which disks move here, with the disks' numbers.
    var movers: [UInt64: Int] = [:]
    var listeners: [ListeningSocket] = []
    var acceptors: [WorkerThread] = []
  }

  /// - Parameter log: takes a line about what a person may want to know.
  public init(
    _ disks: [ServedDisk], _ options: Options = Options(),
    log: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    (self.disks, self.options, self.log) = (disks, options, log)
    let queue = queue
    pool = (0..<max(options.threadCount, 1)).map { number in
      WorkerThread("block-\(number)") {
        let worker = RequestWorker()
        while let job = queue.pop() { worker.carryOut(job) }
      }
    }
  }

  deinit { queue.close() }

  /// Connections that are open now.
  public var connectionCount: Int { state.read { $0.connections.count } }

  /// Takes connections from a socket, until `drain`.
  ///
  /// - Parameter secure: nil: no TLS. Otherwise clients have to ask for it before anything else.
  public func serve(_ listener: ListeningSocket, secure: Secure? = nil) {
    let acceptor = WorkerThread("block-accept") { [self] in accept(listener, secure) }
    state.update { state in
      state.listeners.append(listener)
      state.acceptors.append(acceptor)
    }
  }

  /// Lets no client in any more, carries out and answers the requests that have arrived, for at most
  /// `timeoutMs`; then everything written is on stable storage. Returns what could not be flushed.
  public func drain(timeoutMs: UInt64) -> [StoreError] {
    let open = state.update { state in
      state.isDraining = true
      // Blocked threads see the end of the stream behind what has arrived.
      for open in state.connections.values { open.socket.shutdownReading() }
      defer { (state.listeners, state.acceptors) = ([], []) }
      return (state.listeners, state.acceptors)
    }
    open.1.forEach { $0.join() }
    _ = state.wait(timeoutMs: timeoutMs) { $0.connections.isEmpty ? true : nil }
    state.read { state in state.connections.values.forEach { $0.socket.shutdown() } }
    return disks.compactMap { disk in
      guard !disk.store.traits.isReadOnly, !disk.store.isAtRest else { return nil }
      do throws(StoreError) {
        try disk.store.flush()
        return nil
      } catch { return error }
    }
  }

  /// How often an acceptor looks whether the server drains, in milliseconds: a socket that a
  /// supervisor holds, too, can't be shut down to wake it.
  private static let acceptPollMs: UInt64 = 100

  private func accept(_ listener: ListeningSocket, _ secure: Secure?) {
    while !state.read({ $0.isDraining }) {
      do {
        guard let socket = try listener.accept(timeoutMs: Self.acceptPollMs) else { continue }
        guard let open = admit(socket) else {
          log("\(socket.peer): refused, \(options.connectionsMax) connections are open")
          continue
        }
        // A client whose host is gone would keep its thread and its place for ever. Unix sockets have nothing of it.
        TCPSocket.tuned(socket)
        _ = WorkerThread("block-conn") { [self] in
          defer { forget(open) }
          do {
            try DiskConnection(self, open, secure).run()
          } catch {
            log("\(socket.peer): \(error)")
          }
        }
      } catch {
        log("\(error)")
        MonotonicClock.sleep(us: Self.acceptPollMs * 1000)
      }
    }
  }

  private func admit(_ socket: StreamSocket) -> OpenConnection? {
    state.update { state in
      guard !state.isDraining, state.connections.count < options.connectionsMax else { return nil }
      let open = OpenConnection(state.nextID, socket)
      state.nextID += 1
      state.connections[open.id] = open
      return open
    }
  }

  private func forget(_ open: OpenConnection) {
    state.update { state in
      state.connections[open.id] = nil
      state.movers[open.id] = nil
    }
  }

  /// Makes a connection the one over which a disk moves here: ends earlier ones, and waits until nothing of theirs is being
  /// carried out. False: a later one is there, so this one's client has given it up.
  func takeOver(_ open: OpenConnection, disk: Int) -> Bool {
    let isLast = state.update { state in
      let others = state.movers.filter { $0.value == disk }.keys
      guard others.allSatisfy({ $0 < open.id }) else { return false }
      for id in others { state.connections[id]?.fence() }
      state.movers[open.id] = disk
      return true
    }
    guard isLast else { return false }
    return state.wait { state -> Bool? in
      if open.isFenced { return false }
      let isAlone = state.movers.allSatisfy { $0.value != disk || $0.key >= open.id }
      return isAlone ? true : nil
    } ?? false
  }
}
