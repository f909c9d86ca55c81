public import Agent
public import ArgumentParser

struct IndexCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "index", abstract: "Index disk images, so that their blocks need not be sent.",
    subcommands: [IndexBuildCommand.self, IndexListCommand.self],
    defaultSubcommand: IndexBuildCommand.self)
}

/// Where this host's agent keeps its indexes.
struct IndexFolderOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Configuration file of this host's agent (default: /etc/godwit/agent.toml).",
      valueName: "path"))
  var config: String?
  @Option(
    help: ArgumentHelp(
      "The agent's folder for its state (default: as the configuration says).", valueName: "path"))
  var stateDirectory: String?

  func folder() throws -> IndexFolder {
    var configuration = try AgentConfiguration.load(path: config ?? AgentConfiguration.defaultPath)
    AgentOptions.useFoldersOfUser(&configuration)
    return IndexFolder(stateDirectory: stateDirectory ?? configuration.stateDirectory)
  }
}

extension ImageIndexing.Format: ExpressibleByArgument {}
