import HostIO
import NIOCore
public import QMP
import Synchronization

/// A connection to the QMP monitor of one QEMU.
public final class Monitor: Sendable {
  /// Time-out of commands that name none. A busy host and a QEMU that is setting up dirty logging of
  /// a large guest can hold the monitor for seconds.
  public static let commandTimeoutMs: UInt64 = 30_000

  public let path: String
  public let client: QMPClient
  private let transport: UnixLineTransport

  private init(path: String, client: QMPClient, transport: UnixLineTransport) {
    (self.path, self.client, self.transport) = (path, client, transport)
  }

  /// Connects to the unix socket at `path` and negotiates, within `timeoutMs` milliseconds for each.
  ///
  /// QEMU serves one client per monitor. When another program holds it, the connection succeeds and
  /// no greeting comes: the error then says so.
  ///
  /// A QEMU that is about to notice the end of its last client may let the next one go without a word (seen with 10.0
  /// on a busy host); that one comes again.
  public static func connect(path: String, timeoutMs: UInt64) async throws -> Monitor {
    for _ in 1..<attemptsMax {
      do {
        return try await connectOnce(path: path, timeoutMs: timeoutMs)
      } catch let error as MonitorError where error.cause.code == .disconnected {
        guard error.cause.command == "greeting" else { throw error }
        try await Task.sleep(nanoseconds: attemptPauseMs * 1_000_000)
      }
    }
    return try await connectOnce(path: path, timeoutMs: timeoutMs)
  }

  private static let attemptsMax = 5
  private static let attemptPauseMs: UInt64 = 100

  private static func connectOnce(path: String, timeoutMs: UInt64) async throws -> Monitor {
    let link = MonitorLink()
    let client = QMPClient(transport: link, timer: link, defaultTimeoutMs: commandTimeoutMs)
    let transport = try await UnixLineTransport.connect(
      path: path, timeoutMs: timeoutMs, lineLengthMax: QMPMessage.lineLengthMax,
      onLine: { client.receive($0) }, onClose: { client.connectionClosed(detail: $0) })
    link.attach(transport)
    let monitor = Monitor(path: path, client: client, transport: transport)
    do {
      try await client.negotiate(timeoutMs: timeoutMs)
    } catch {
      client.close()
      throw MonitorError(path: path, cause: error)
    }
    return monitor
  }

  /// Whether the connection has ended, which it does when QEMU dies.
  public var isClosed: Bool { client.isClosed }

  /// Returns when the connection has ended, or when the caller's task is cancelled.
  public func closed() async { await client.closed() }

  /// Ends the connection; QEMU goes on, and takes the next client.
  public func close() async {
    client.close()
    await transport.closed()
  }

  deinit { client.close() }
}

/// A monitor that cannot be used.
public struct MonitorError: Error, Sendable, CustomStringConvertible {
  public let path: String
  public let cause: QMPError

  public var description: String {
    if case .timedOut = cause.code, cause.command == "greeting" {
      return "the monitor at \(path) does not greet: another program holds its only connection, "
        + "or QEMU hangs. Give QEMU a second monitor (-qmp unix:PATH,server=on,wait=off)"
    }
    return "the monitor at \(path) cannot be used: \(cause)"
  }
}

/// Joins the client and its connection, which must know each other.
private final class MonitorLink: QMPTransport, QMPTimer {
  private let transport = Mutex<UnixLineTransport?>(nil)

  func attach(_ transport: UnixLineTransport) { self.transport.withLock { $0 = transport } }

  func send(_ line: String) -> Bool { transport.withLock { $0 }?.send(line) ?? false }

  func close() { transport.withLock { $0 }?.close() }

  func schedule(
    afterMs milliseconds: UInt64, _ action: @escaping @Sendable () -> Void
  ) -> @Sendable () -> Void {
    guard let loop = transport.withLock({ $0 })?.eventLoop else { return {} }
    // A day bounds the conversion to nanoseconds.
    let delay = TimeAmount.milliseconds(Int64(min(milliseconds, 86_400_000)))
    let scheduled = loop.scheduleTask(in: delay, action)
    return { scheduled.cancel() }
  }
}
