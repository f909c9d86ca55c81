public import ArgumentParser

/// What can be done with a captured migration stream.
public struct StreamCommand: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "stream", abstract: "Look inside a captured migration stream.",
    subcommands: [StreamDumpCommand.self])

  public init() {}
}
