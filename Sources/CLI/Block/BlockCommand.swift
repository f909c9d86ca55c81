public import ArgumentParser

/// `godwit block`: guests' disks.
public struct BlockCommand: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "block",
    abstract: "Serve guests' disks, and put running guests' disks behind the server.",
    subcommands: [BlockServeCommand.self, BlockAttachCommand.self, BlockDetachCommand.self])

  public init() {}
}
