import Glibc
public import HostIO
import QMP

/// A QEMU that Godwit started to receive a VM. It lives on when the agent dies.
public struct IncomingQEMU: Sendable {
  public let identity: ProcessIdentity
  /// The agent's own QMP socket.
  public let monitorPath: String
  /// Where QEMU's messages go.
  public let logPath: String
  /// Connected to `monitorPath`.
  public let monitor: Monitor
  /// Removed when the VM does not come to live here.
  let directory: String

  /// Starts QEMU paused (`-S`), waiting to be told where to listen (`-incoming defer`).
  ///
  /// Returns once its monitor answers. When it ends before that, the error carries its last words.
  ///
  /// - Parameters:
  ///   - id: the migration's; makes the paths unique.
  ///   - mayPull: it gets a second monitor, for a `MonitorKeeper`.
  public static func start(
    _ launch: QEMULaunch, id: String, mayPull: Bool = false, configuration: AgentConfiguration
  ) async throws -> IncomingQEMU {
    let label = fileName(id)
    let directory = directoryPath(id: id, configuration)
    let monitorPath = directory + "/qmp.sock"
    guard monitorPath.utf8.count <= UnixLineTransport.pathLengthMax else {
      throw LaunchRefusal(
        "the socket's path \(monitorPath) is longer than \(UnixLineTransport.pathLengthMax) bytes",
        remedy: "set a shorter runtimeDirectory in agent.toml")
    }
    try await refuseSocketsInUse(launch)
    let logDirectory = configuration.stateDirectory + "/log"
    try PrivateDirectory.make(configuration.runtimeDirectory)
    try PrivateDirectory.make(directory)
    try PrivateDirectory.make(configuration.stateDirectory)
    try PrivateDirectory.make(logDirectory)
    let logPath = "\(logDirectory)/\(fileName(launch.name))-\(label).log"
    let socket = LaunchArguments.escape(monitorPath)
    var arguments =
      launch.arguments + [
        "-S", "-incoming", "defer",
        "-chardev", "socket,id=godwit-qmp,path=\(socket),server=on,wait=off",
        "-mon", "chardev=godwit-qmp,mode=control",
      ]
    if mayPull {
      let socket = LaunchArguments.escape(keptMonitorPath(monitorPath))
      arguments += [
        "-chardev", "socket,id=godwit-kept,path=\(socket),server=on,wait=off",
        "-mon", "chardev=godwit-kept,mode=control",
      ]
    }
    let identity: ProcessIdentity
    do {
      identity = try DaemonProcess.spawn(
        program: launch.program, arguments: arguments, environment: environment(),
        logPath: logPath)
    } catch {
      removeDirectory(directory)
      throw error
    }
    do {
      let monitor = try await connect(
        monitorPath, identity: identity, program: launch.program, logPath: logPath,
        timeoutMs: configuration.startTimeoutMs)
      return IncomingQEMU(
        identity: identity, monitorPath: monitorPath, logPath: logPath, monitor: monitor,
        directory: directory)
    } catch {
      _ = try? await identity.terminate(graceMs: 1000)
      removeDirectory(directory)
      throw error
    }
  }

  /// The QEMU that was started for migration `id` and still lives: for an agent that died before it
  /// could write down which process it had started.
  public static func find(
    id: String, configuration: AgentConfiguration
  ) async throws -> DiscoveredVM? {
    let path = directoryPath(id: id, configuration) + "/qmp.sock"
    return try await VMDiscovery.scan().first { $0.monitorPaths.contains(path) }
  }

  /// The second monitor of a guest that may be pulled.
  static func keptMonitorPath(_ monitorPath: String) -> String { monitorPath + "-2" }

  /// A migration's id, short enough for a socket's path.
  static func label(_ id: String) -> String { String(id.prefix(12)) }

  static func directoryPath(id: String, _ configuration: AgentConfiguration) -> String {
    configuration.runtimeDirectory + "/vm-" + fileName(id)
  }

  /// Ends this QEMU and leaves nothing behind but its log. For before the commit only.
  public func discard() async {
    await monitor.close()
    _ = try? await identity.terminate(graceMs: 2000)
    Self.removeDirectory(directory)
  }

  /// The last lines of its log, for messages.
  public func logTail() -> String { Self.logTail(logPath) }

  /// Returns when QEMU has ended, or when `timeoutMs` milliseconds have passed (nil).
  public func waitForExit(timeoutMs: UInt64) async throws -> ProcessEnd? {
    try await identity.waitForExit(timeoutMs: timeoutMs)
  }

  private static func connect(
    _ path: String, identity: ProcessIdentity, program: String, logPath: String, timeoutMs: UInt64
  ) async throws -> Monitor {
    let deadlineMs = MonotonicClock.nowMs + timeoutMs
    while true {
      // Waiting for the process is the pause between two attempts.
      if let end = try await identity.waitForExit(timeoutMs: 20) {
        throw QEMUStartError(
          program: program, end: end, logPath: logPath, lastWords: logTail(logPath))
      }
      let nowMs = MonotonicClock.nowMs
      guard nowMs < deadlineMs else {
        throw QEMUStartError(
          program: program, end: nil, logPath: logPath, lastWords: logTail(logPath))
      }
      // SAFETY: the path is a NUL-terminated copy for the call.
      guard unsafe access(path, F_OK) == 0 else { continue }
      do {
        return try await Monitor.connect(path: path, timeoutMs: deadlineMs - nowMs)
      } catch is LineTransportError {
        continue  // bound but not listening yet
      } catch is MonitorError {
        continue  // QEMU is ending; the process tells how
      }
    }
  }

  /// QEMU removes a socket that exists and binds it anew: a monitor or console of a VM that runs
  /// here would silently be cut off.
  private static func refuseSocketsInUse(_ launch: QEMULaunch) async throws {
    let wanted = QEMUCommandLine(arguments: launch.arguments).monitorPaths
    guard !wanted.isEmpty else { return }
    for vm in try await VMDiscovery.scan() {
      if let path = vm.monitorPaths.first(where: wanted.contains) {
        throw LaunchRefusal(
          "the monitor \(path) is already served by \"\(vm.name)\" (pid \(vm.pid)) on this host",
          remedy: "give the definition of \"\(launch.name)\" another path")
      }
    }
  }

  /// What QEMU inherits: a search path for its helpers and nothing of the agent's own.
  private static func environment() -> [String] {
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]
  }

  /// A name from outside as part of a file's name.
  static func fileName(_ text: String) -> String {
    let scalars = text.unicodeScalars.prefix(48).map { scalar -> Character in
      let isPlain =
        scalar.isASCII && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar))
      return isPlain || scalar == "-" ? Character(scalar) : "_"
    }
    return scalars.isEmpty ? "_" : String(scalars)
  }

  static func logTail(_ path: String, lineCount: Int = 8) -> String {
    // A log grows by what the guest writes to a console on standard output: bounded from the end.
    guard let text = LogTail.read(path, byteCount: 4096) else { return "" }
    return text.split(whereSeparator: \.isNewline).suffix(lineCount).joined(separator: "\n")
  }

  /// A guest that came here by Godwit leaves the folder that it came with.
  static func removeFolder(ofMonitor path: String, _ configuration: AgentConfiguration) {
    guard path.hasPrefix(configuration.runtimeDirectory + "/vm-"),
      let end = path.lastIndex(of: "/")
    else { return }
    removeDirectory(String(path[..<end]))
  }

  static func removeDirectory(_ directory: String) {
    // SAFETY: the paths are NUL-terminated copies for the calls.
    for name in ProcFile.names(in: directory, limit: 64) {
      _ = unsafe unlink(directory + "/" + name)
    }
    _ = unsafe rmdir(directory)
  }
}

/// A QEMU that ended, or said nothing, before its monitor answered.
public struct QEMUStartError: Error, Sendable, CustomStringConvertible {
  public let program: String
  /// nil: it still ran but did not answer in time, and was ended.
  public let end: ProcessEnd?
  public let logPath: String
  public let lastWords: String

  public var description: String {
    let what = end.map { "\($0)" } ?? "did not answer on its monitor in time"
    let words = lastWords.isEmpty ? "it said nothing" : "its last words: \(lastWords)"
    return
      "\(program) \(what) at the destination before the migration began; \(words) (log: \(logPath))"
  }
}
