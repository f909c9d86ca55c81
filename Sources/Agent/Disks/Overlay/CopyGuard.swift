/// Sees to it that a guest whose disk is being changed over isn't left waiting when the command that does it dies.
///
/// QEMU that was asked to end a copy does so at the guest's next rest, whenever that is, and holds its requests until it is told to
/// go on. So a process of its own (`godwit guard-copy`) is connected to the command while a copy is followed. When the connection
/// ends without a word, it does what an interrupted command does: it cancels a copy that QEMU was about to end, and
/// lets a guest go on that is held already.
public struct CopyGuard: Sendable {
  private let process: GuardProcess

  /// Starts a guard for a disk of the QEMU of a monitor, and returns once it is there.
  ///
  /// - Parameter path: of a socket for command and guard.
  public static func start(
    _ disk: String, monitor: String, socket path: String
  ) async throws -> CopyGuard {
    CopyGuard(
      process: try await GuardProcess.start(["guard-copy", path, monitor, disk], socket: path))
  }

  /// The copy has ended, or goes on by itself.
  func dismiss() { process.dismiss() }

  /// The process of its own: waits for the command's word or its end.
  public static func keep(socket path: String, monitor: String, disk: String) async throws {
    try await GuardProcess.act(socket: path, monitor: monitor) { monitor in
      try await OverlayPivot(monitor.client) { _ in }.settleCopy(disk)
    }
  }
}
