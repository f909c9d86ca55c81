import Agent
import ArgumentParser

/// What the agent starts for a guest that runs before its memory is there; for nobody's hands.
struct KeepMonitorCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keep-monitor", abstract: "Hold a monitor of QEMU's open for the next agent.",
    shouldDisplay: false)

  @Argument(help: "The monitor's socket.")
  var monitor: String

  func run() async throws {
    try await MonitorKeeper.keep(monitor)
  }
}
