import Glibc
import HostIO
import QMP

/// Gives a guest back that stands still for a word of its agent's, when that agent dies.
///
/// While QEMU waits in `pre-switchover` the guest is stopped, and the end of the agent's migration socket does not
/// wake it, as it does at any other time. So a process of its own (`godwit guard-pause`) is connected to the agent
/// until that moment is over. When the connection ends without a word, it cancels a migration that waits so, and no other:
/// then QEMU goes on with the guest by itself.
public final class PauseGuard: Sendable {
  /// Sent by the agent: the guard is not needed any more.
  private static let farewell: UInt8 = 1
  private static let startTimeoutMs: UInt64 = 5000
  /// How long the guard tries to reach a monitor that may still be in use, in milliseconds.
  private static let monitorTimeoutMs: UInt64 = 10_000

  private let connection: StreamSocket
  private let process: ProcessIdentity
  private let isDismissed = Guarded(false)

  private init(_ connection: StreamSocket, _ process: ProcessIdentity) {
    (self.connection, self.process) = (connection, process)
  }

  /// Starts a guard for the QEMU of a monitor, and returns once it is there.
  ///
  /// - Parameter path: of a socket for agent and guard.
  static func start(monitor: String, socket path: String) async throws
    -> PauseGuard
  {
    try await Blocking.run {
      let listener = try UnixSocket.listen(path: path)
      let process = try DaemonProcess.spawn(
        program: "/proc/self/exe", arguments: ["guard-pause", path, monitor], environment: [],
        logPath: "/dev/null")
      guard let connection = try listener.accept(timeoutMs: startTimeoutMs) else {
        throw Ending.failed("no process guards the guest's pause")
      }
      return PauseGuard(connection, process)
    }
  }

  /// The pause is over, or was never to come. May be said again.
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

  /// Waits for the agent's word or its end.
  public static func keep(socket path: String, monitor: String) async throws {
    let connection = try UnixSocket.connect(path: path)
    let isDismissed = try await Blocking.run {
      // A reset is an end, too.
      ((try? connection.peekByte()) ?? nil) == farewell
    }
    guard !isDismissed else { return }
    let deadlineMs = MonotonicClock.nowMs + monitorTimeoutMs
    while MonotonicClock.nowMs < deadlineMs {
      do {
        return try await giveBack(monitor)
      } catch {
        try await Task.sleep(nanoseconds: 20_000_000)
      }
    }
  }

  private static func giveBack(_ path: String) async throws {
    let monitor = try await Monitor.connect(path: path, timeoutMs: monitorTimeoutMs)
    do {
      if try await monitor.client.queryMigrate().status == .preSwitchover {
        try await monitor.client.migrateCancel()
      }
      await monitor.close()
    } catch {
      await monitor.close()
      throw error
    }
  }
}
