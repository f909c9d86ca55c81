public import ArgumentParser

/// `godwit block`: guests' disks.
public struct BlockCommand: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "block",
    abstract:
      "Serve guests' disks, put running guests' disks behind the server, move them, and pull them from elsewhere.",
    subcommands: [
      BlockServeCommand.self, BlockAttachCommand.self, BlockDetachCommand.self,
      BlockSnapshotCommand.self, BlockManifestCommand.self, BlockMoveCommand.self,
      BlockPullCommand.self,
      BlockStatusCommand.self, BlockPauseCommand.self,
      BlockResumeCommand.self, BlockFinishCommand.self, BlockCancelCommand.self,
    ])

  public init() {}
}
