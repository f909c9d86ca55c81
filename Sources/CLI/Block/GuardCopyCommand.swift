import Agent
import ArgumentParser

/// What `block attach` and `block detach` start for a guest's qcow2 disk; for nobody's hands.
struct GuardCopyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "guard-copy",
    abstract: "Let a guest go on when the command dies that attaches its disk.",
    shouldDisplay: false)

  @Argument(help: "The command's socket.")
  var socket: String
  @Argument(help: "The monitor of the guest's QEMU.")
  var monitor: String
  @Argument(help: "The disk.")
  var disk: String

  func run() async throws {
    try await CopyGuard.keep(socket: socket, monitor: monitor, disk: disk)
  }
}
