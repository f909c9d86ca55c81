import Agent
import ArgumentParser

/// What the agent starts for a guest whose disks move; for nobody's hands.
struct GuardPauseCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "guard-pause", abstract: "Give a paused guest back when its agent dies.",
    shouldDisplay: false)

  @Argument(help: "The agent's socket.")
  var socket: String
  @Argument(help: "The monitor of the guest's QEMU.")
  var monitor: String

  func run() async throws {
    try await PauseGuard.keep(socket: socket, monitor: monitor)
  }
}
