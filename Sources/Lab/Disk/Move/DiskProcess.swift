import Glibc
import HostIO

/// A program of an experiment with disks: its output goes to a log, and it ends with the run at the latest.
struct DiskProcess: Sendable {
  private static let graceMs: UInt64 = 15_000
  private static let readyMs: UInt64 = 60_000

  private let process: ChildProcess
  private let name: String
  private let logPath: String

  /// - Parameter place: the host that it runs on; nil: on none of the lab's.
  init(
    _ program: String, _ arguments: [String], on place: (hosts: HostPair, side: HostPair.Side)?,
    log logPath: String, folder: RunFolder
  ) throws {
    let log = unsafe open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard log >= 0 else { throw LabError("cannot write \(logPath)") }
    defer { close(log) }
    let (command, whole) =
      place.map { $0.hosts.command(on: $0.side, program, arguments) } ?? (program, arguments)
    do {
      process = try ChildProcess(command, whole, output: log)
    } catch {
      throw LabError(
        "\(program) can't be started (\(error.detail)); see Docs/lab.md for what is needed")
    }
    (name, self.logPath) = (program, logPath)
    try folder.note(process: process.pid)
  }

  var pid: Int32 { process.pid }

  /// Waits until `isReady`, which may fail meanwhile.
  func wait(until isReady: () async -> Bool) async throws {
    let startMs = MonotonicClock.nowMs
    while await !isReady() {
      guard process.exit == nil else { throw LabError("\(name) ended: \(lastWords)") }
      guard MonotonicClock.nowMs - startMs < Self.readyMs else {
        throw LabError("\(name) does not begin its work: \(lastWords)")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  var lastWords: String {
    let lines = ((try? SmallFile.read(logPath)) ?? "").split(separator: "\n").suffix(3)
    return lines.isEmpty ? "it said nothing" : lines.joined(separator: " | ")
  }

  /// Ends it at once, as a crash would.
  func kill() async {
    process.send(signal: SIGKILL)
    _ = await process.wait()
  }

  func end() async { await process.terminate(graceMs: Self.graceMs) }
}
