import Agent
import ArgumentParser
import FoundationEssentials
import Glibc
import Logging

struct AgentCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "agent", abstract: "Run the agent of this host, until SIGTERM or SIGINT.",
    discussion: """
      One agent per host. It owns the control socket that the other commands talk to, and accepts \
      migrations from other agents, over TLS 1.3 and with certificates on both sides (godwit pki). \
      Options here override the configuration file (agent.toml; the installed example names every \
      key). It logs to standard error, with fields where that is systemd's journal.

      SIGTERM and SIGINT: no migration begins any more, those that run have drainTimeout to end, then \
      outgoing ones are cancelled. SIGHUP: reads the configuration again; listen, metrics, \
      logLevel and the folders need a new start. Under systemd it says when it is ready and takes its \
      sockets over (LISTEN_FDS).
      """,
    subcommands: [AgentCheckCommand.self])

  @OptionGroup var options: AgentOptions

  func run() async throws {
    let options = options
    let configuration = try options.load()
    try await AgentProcess(
      load: { try options.load() }, controlSocket: options.controlSocket(configuration),
      logger: options.makeLogger(configuration)
    ).run()
  }
}

/// Options of `godwit agent`; nil means: as the configuration file says, else the default.
struct AgentOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Configuration file (default: /etc/godwit/agent.toml).", valueName: "path"))
  var config: String?
  @Option(
    help: ArgumentHelp(
      "Control socket (default: /run/godwit/agent.sock; without root: $XDG_RUNTIME_DIR/godwit/agent.sock).",
      valueName: "path"))
  var controlSocket: String?
  @Option(
    help: ArgumentHelp(
      "Address for other agents (default: 0.0.0.0:4750).", valueName: "host:port"))
  var listen: String?
  @Option(
    help: ArgumentHelp(
      "Folder for history and journal (default: /var/lib/godwit; without root: ~/.local/state/godwit).",
      valueName: "path"))
  var stateDirectory: String?
  @Option(
    help: ArgumentHelp(
      "Folder for sockets (default: /run/godwit; without root: $XDG_RUNTIME_DIR/godwit).",
      valueName: "path"))
  var runtimeDirectory: String?
  @Flag(
    help: "Plain TCP in place of TLS, on loopback only: no encryption, and peers are not known.")
  var insecure = false
  @Flag(help: "With --insecure: other addresses, too. For networks that only your hosts reach.")
  var insecureNetwork = false
  @Option(help: "Least severe messages to log (default: info).")
  var logLevel: LogLevel?

  enum LogLevel: String, ExpressibleByArgument, CaseIterable {
    case trace, debug, info, notice, warning, error
  }

  /// The configuration file with these options in its place.
  func load() throws -> AgentConfiguration {
    var configuration = try AgentConfiguration.load(path: config ?? AgentConfiguration.defaultPath)
    Self.useFoldersOfUser(&configuration)
    if let listen { configuration.listen = listen }
    if let stateDirectory { configuration.stateDirectory = stateDirectory }
    if let runtimeDirectory { configuration.runtimeDirectory = runtimeDirectory }
    if insecure { configuration.tls.insecure = true }
    if insecureNetwork { configuration.tls.insecureNetwork = true }
    if let logLevel { configuration.logLevel = logLevel.rawValue }
    return configuration
  }

  /// Without root the default folders can't be written: those of the user take their place.
  static func useFoldersOfUser(_ configuration: inout AgentConfiguration) {
    guard geteuid() != 0 else { return }
    let (defaults, environment) = (AgentConfiguration(), ProcessInfo.processInfo.environment)
    if configuration.stateDirectory == defaults.stateDirectory {
      let base = environment["XDG_STATE_HOME"] ?? environment["HOME"].map { $0 + "/.local/state" }
      if let base { configuration.stateDirectory = base + "/godwit" }
    }
    if configuration.runtimeDirectory == defaults.runtimeDirectory {
      configuration.runtimeDirectory = ControlSocket.defaultFolder
    }
    if configuration.tls.directory == defaults.tls.directory {
      configuration.tls.directory = PKIFolderOptions.defaultPath
    }
  }

  /// The option, else beside the agent's other sockets: by default where the other commands look.
  func controlSocket(_ configuration: AgentConfiguration) -> String {
    if let controlSocket { return controlSocket }
    return configuration.runtimeDirectory + "/agent.sock"
  }

  func makeLogger(_ configuration: AgentConfiguration) -> Logger {
    var logger = Logger(label: "godwit", factory: AgentLog.handler)
    logger.logLevel = Logger.Level(rawValue: configuration.logLevel) ?? .info
    return logger
  }
}
