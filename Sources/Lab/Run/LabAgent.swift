import Agent
import FoundationEssentials
import Glibc
import HostIO

/// `godwit agent` on one of the lab's hosts.
struct LabAgent: Sendable {
  let process: ChildProcess
  let controlSocket: String
  let port: UInt16
  let logPath: String

  static let startTimeoutMs: UInt64 = 60_000

  /// - Parameters:
  ///   - program: what to start; nil: the lab's own.
  ///   - environment: variables for the agent alone.
  ///   - drainMs: its `drainTimeout`.
  ///   - settings: more lines of its configuration.
  static func start(
    _ side: HostPair.Side, session: GuestSession, program: String? = nil,
    environment: [String: String] = [:], drainMs: UInt64 = 0, settings: String = ""
  ) async throws -> LabAgent {
    try makeFolders(side, session)
    let folder = folder(side, session)
    let socket = "\(folder)/agent.sock"
    var files = files(side, session)
    (files.drainMs, files.settings) = (drainMs, settings)
    try files.write()
    if side == .destination { try files.define(session) }
    let logPath = "\(folder)/agent.log"
    let log = try LogCapture(path: logPath)
    let variables = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    let (command, arguments) = session.hosts.command(
      on: side, "/usr/bin/env",
      variables + [
        try program ?? self.program(session.options), "agent", "--config", "\(folder)/agent.toml",
        "--control-socket", socket,
      ])
    let process = try ChildProcess(command, arguments, output: log.input.raw)
    try session.folder.note(process: process.pid)
    let agent = LabAgent(
      process: process, controlSocket: socket, port: files.port, logPath: logPath)
    try await agent.waitUntilReady()
    return agent
  }

  /// The files of an agent with nothing special about it.
  static func files(_ side: HostPair.Side, _ session: GuestSession) -> AgentFiles {
    // On loopback both agents share one address.
    AgentFiles(
      side: side, session: session, folder: folder(side, session),
      port: side == .source ? 4750 : 4751)
  }

  static func folder(_ side: HostPair.Side, _ session: GuestSession) -> String {
    session.file(side == .source ? "as" : "ad")
  }

  static func makeFolders(_ side: HostPair.Side, _ session: GuestSession) throws {
    for name in ["", "/vms", "/state", "/run"] {
      try FileManager.default.createDirectory(
        atPath: folder(side, session) + name, withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o700])
    }
  }

  /// Most memory that the process has used so far, in bytes; nil when it is gone.
  var peakBytes: UInt64? {
    guard let text = try? SmallFile.read("/proc/\(process.pid)/status"),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") })
    else { return nil }
    return UInt64(line.filter { $0.isASCII && $0.isNumber }).map { $0 << 10 }
  }

  static func program(_ options: LabOptions) throws -> String {
    if let given = options.godwitProgram { return given }
    return try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
  }

  private func waitUntilReady() async throws {
    let startMs = MonotonicClock.nowMs
    while true {
      if (try? await ControlClient(path: controlSocket).version()) != nil { return }
      guard process.exit == nil else { throw LabError("godwit agent did not start: \(lastWords)") }
      guard MonotonicClock.nowMs - startMs < Self.startTimeoutMs else {
        await end()
        throw LabError("godwit agent does not answer: \(lastWords)")
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// The last lines of the agent's log.
  var lastWords: String {
    let lines = ((try? SmallFile.read(logPath, bytesMax: 16 << 20)) ?? "").split(separator: "\n")
    return lines.isEmpty ? "it said nothing" : lines.suffix(4).joined(separator: " | ")
  }

  func end() async { await process.terminate(graceMs: 3000) }
}

/// The files that an agent of the lab reads.
struct AgentFiles {
  let side: HostPair.Side
  let session: GuestSession
  let folder: String
  let port: UInt16
  var drainMs: UInt64 = 0
  /// More lines of the configuration.
  var settings = ""

  func write() throws {
    try SmallFile.write(Array(agentTOML.utf8), to: "\(folder)/agent.toml", mode: 0o600)
  }

  /// Writes the definition of a session's guest, for the agent of these files to start.
  func define(_ session: GuestSession) throws {
    let arguments = try session.arrival(at: side)
    try SmallFile.write(
      Array(AgentFiles.definitionTOML(of: session, arguments: arguments).utf8),
      to: "\(folder)/vms/\(session.options.guest.name).toml", mode: 0o600)
  }

  var agentTOML: String {
    let program = session.commandLine.destination.path
    return """
      listen = \(Self.quote("\(session.hosts.address(side)):\(port)"))
      stateDirectory = \(Self.quote("\(folder)/state"))
      runtimeDirectory = \(Self.quote("\(folder)/run"))
      definitionsDirectory = \(Self.quote("\(folder)/vms"))
      allowedPrograms = [\(Self.quote(program))]
      drainTimeout = "\(drainMs)ms"
      \(settings)

      [tls]
      directory = \(Self.quote(session.folder.file("pki-\(side.rawValue)")))
      insecure = \(session.options.insecure)
      insecureNetwork = \(session.options.insecure)

      """
  }

  private static func definitionTOML(of session: GuestSession, arguments: [String]) -> String {
    """
    name = \(quote(session.options.guest.name))
    program = \(quote(session.commandLine.destination.path))
    arguments = [
    \(arguments.map { "  \(quote($0)),\n" }.joined())]

    """
  }

  /// A TOML basic string.
  private static func quote(_ text: String) -> String {
    "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
  }
}
