import Glibc
import HostIO

/// A process of its own that acts in the place of the one that has started it, when that one dies in a moment in which it must not.
final class GuardProcess: Sendable {
  /// Sent by who started it: the moment is over.
  private static let farewell: UInt8 = 1
  private static let startTimeoutMs: UInt64 = 5000
  /// How long a guard tries to act, in milliseconds: a monitor may still be in use.
  private static let actTimeoutMs: UInt64 = 10_000
  private static let retryNs: UInt64 = 20_000_000

  private let connection: StreamSocket
  private let process: ProcessIdentity
  private let isDismissed = Guarded(false)

  private init(_ connection: StreamSocket, _ process: ProcessIdentity) {
    (self.connection, self.process) = (connection, process)
  }

  /// Starts this program with other arguments, and returns once it is connected.
  ///
  /// - Parameter path: of a socket for both; the arguments name it, too.
  static func start(_ arguments: [String], socket path: String) async throws -> GuardProcess {
    try await Blocking.run {
      let listener = try UnixSocket.listen(path: path)
      let process = try DaemonProcess.spawn(
        program: "/proc/self/exe", arguments: arguments, environment: [], logPath: "/dev/null")
      guard let connection = try listener.accept(timeoutMs: startTimeoutMs) else {
        // One that comes late must not act, nor stay unburied.
        _ = try? process.signal(SIGKILL)
        Task { _ = try? await process.waitForExit(timeoutMs: startTimeoutMs) }
        throw SpawnError(program: "godwit \(arguments.first ?? "")", detail: "did not start")
      }
      return GuardProcess(connection, process)
    }
  }

  /// The moment is over, or was never to come. May be said again.
  func dismiss() {
    let isFirst = isDismissed.update { isDismissed in
      defer { isDismissed = true }
      return !isDismissed
    }
    guard isFirst else { return }
    try? unsafe connection.writeAll([Self.farewell].span.bytes)
    connection.shutdown()
    Task { [process] in _ = try? await process.waitForExit(timeoutMs: Self.startTimeoutMs) }
  }

  // MARK: The process of its own

  /// Waits for the word of who started it, or their end; only then it acts, again until that has succeeded.
  static func act(socket path: String, _ body: () async throws -> Void) async throws {
    let connection = try UnixSocket.connect(path: path)
    let isDismissed = try await Blocking.run {
      // A reset is an end, too.
      ((try? connection.peekByte()) ?? nil) == farewell
    }
    guard !isDismissed else { return }
    let deadlineMs = MonotonicClock.nowMs + actTimeoutMs
    while MonotonicClock.nowMs < deadlineMs {
      do { return try await body() } catch { try await Task.sleep(nanoseconds: retryNs) }
    }
  }

  /// The same with a guest's monitor.
  static func act(
    socket path: String, monitor: String, _ body: (Monitor) async throws -> Void
  ) async throws {
    try await act(socket: path) {
      let open = try await Monitor.connect(path: monitor, timeoutMs: actTimeoutMs)
      do {
        try await body(open)
        await open.close()
      } catch {
        await open.close()
        throw error
      }
    }
  }
}
