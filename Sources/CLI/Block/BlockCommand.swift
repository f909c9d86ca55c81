public import ArgumentParser

/// `godwit block`: guests' disks.
public struct BlockCommand: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "block", abstract: "Serve guests' disks.",
    subcommands: [BlockServeCommand.self])

  public init() {}
}
