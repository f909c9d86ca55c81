import HostIO
import Synchronization

/// Listens for the serial ports of a guest's two QEMUs and keeps what the guest says.
public final class SerialCapture: Sendable {
  private let state = Mutex(HeartbeatLog())
  private let sockets: Mutex<[ListeningSocket]> = Mutex([])
  /// The QEMUs' connections, the oldest first.
  private let connections: Mutex<[Connection]> = Mutex([])

  private struct Connection: Sendable {
    let socket: StreamSocket
    let side: HeartbeatLog.Side
    var isAtEnd = false
  }

  public init() {}

  /// What was heard so far.
  public var log: HeartbeatLog { state.withLock { $0 } }

  /// A look at the log without copying it.
  public func look<Value>(_ body: (borrowing HeartbeatLog) -> Value) -> Value {
    state.withLock { body($0) }
  }

  /// Opens the socket that a QEMU's serial port will connect to, and a thread that reads it.
  public func listen(at path: String, side: HeartbeatLog.Side) throws {
    let socket = try UnixSocket.listen(path: path)
    sockets.withLock { $0.append(socket) }
    _ = WorkerThread("serial-\(side.rawValue)") { [self] in
      while let connection = try? socket.accept() {
        connections.withLock { $0.append(Connection(socket: connection, side: side)) }
        // Only looked at here: what has arrived is taken from all connections in their order.
        while (try? connection.peekByte()) != nil { takeArrived() }
        takeArrived()
      }
    }
  }

  /// Takes no new connections; those that there are, are heard to their ends.
  public func close() {
    sockets.withLock {
      for socket in $0 { socket.shutdown() }
      $0 = []
    }
  }

  /// Keeps what the guest said beside its heartbeats; for people who look for a cause.
  func write(to path: String) {
    let text = look { $0.otherLines.joined(separator: "\n") + "\n" }
    try? SmallFile.write(Array(text.utf8), to: path)
  }

  /// Waits until the guest's workload runs; throws when it does not within `timeoutMs`.
  public func waitUntilReady(timeoutMs: UInt64, isAlive: () -> Bool) async throws {
    let startMs = MonotonicClock.nowMs
    while !look({ $0.isReady && $0.last != nil }) {
      guard isAlive() else { throw LabError("QEMU ended before the guest was up\(heard)") }
      guard MonotonicClock.nowMs - startMs < timeoutMs else {
        throw LabError("the guest was not up after \(timeoutMs / 1000) s\(heard)")
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  private var heard: String {
    let lines = look { Array($0.otherLines.suffix(3)) }
    return lines.isEmpty ? "; it said nothing" : "; it said: \(lines.joined(separator: " | "))"
  }

  /// Takes what has arrived from every connection.
  private func takeArrived() {
    var chunk = [UInt8](repeating: 0, count: 4096)
    connections.withLock { all in
      ArrivalOrder.take(
        count: all.count,
        read: { index -> ArraySlice<UInt8>? in
          guard !all[index].isAtEnd else { return nil }
          // SAFETY: the buffer lives for the call, and its own count bounds it.
          guard
            let count = try? unsafe chunk.withUnsafeMutableBytes({
              unsafe try all[index].socket.readArrived(into: $0)
            })
          else { return nil }
          all[index].isAtEnd = count == 0
          return count > 0 ? chunk[..<count] : nil
        },
        take: { index, bytes in
          let now = MonotonicClock.nowUs
          state.withLock { $0.receive(bytes, from: all[index].side, atUs: now) }
        })
    }
  }
}

/// The order in which a guest spoke, over connections that come one after the other.
enum ArrivalOrder {
  /// Takes what has arrived from each of so many connections, the oldest first.
  ///
  /// What a guest says at its destination it says after all that it said at the source. But that may have come since the
  /// source's connection was found empty: a reader that is short of time looks at the one before the move's pause, and at the
  /// other behind it. So what is read from a connection counts after everything that the older ones have by then.
  ///
  /// - Parameters:
  ///   - read: what has arrived at one of them; nil: nothing.
  ///   - take: is given it in order.
  static func take<Bytes>(
    count: Int, read: (Int) -> Bytes?, take: (Int, Bytes) -> Void
  ) {
    for index in 0..<count {
      while let bytes = read(index) {
        self.take(count: index, read: read, take: take)
        take(index, bytes)
      }
    }
  }
}
