import QMP

/// Gives a guest back that stands still for a word of its agent's, when that agent dies.
///
/// While QEMU waits in `pre-switchover` the guest is stopped, and the end of the agent's migration socket does not
/// wake it, as it does at any other time. So a process of its own (`godwit guard-pause`) is connected to the agent
/// until that moment is over. When the connection ends without a word, it cancels a migration that waits so, and no other:
/// then QEMU goes on with the guest by itself.
public final class PauseGuard: Sendable {
  private let process: GuardProcess

  private init(_ process: GuardProcess) { self.process = process }

  /// Starts a guard for the QEMU of a monitor, and returns once it is there.
  ///
  /// - Parameter path: of a socket for agent and guard.
  static func start(monitor: String, socket path: String) async throws -> PauseGuard {
    PauseGuard(try await GuardProcess.start(["guard-pause", path, monitor], socket: path))
  }

  /// The pause is over, or was never to come. May be said again.
  func dismiss() { process.dismiss() }

  /// The process of its own: waits for the agent's word or its end.
  public static func keep(socket path: String, monitor: String) async throws {
    try await GuardProcess.act(socket: path, monitor: monitor) { monitor in
      guard try await monitor.client.queryMigrate().status == .preSwitchover else { return }
      try await monitor.client.migrateCancel()
    }
  }
}
