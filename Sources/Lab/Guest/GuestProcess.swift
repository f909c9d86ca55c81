import Agent
import Glibc
import HostIO
import QMP

/// A QEMU of the lab's: started on one of the hosts, with its output in a log.
struct GuestProcess: Sendable {
  let process: ChildProcess
  let logPath: String
  let monitorPath: String

  /// Starts a QEMU on `side`.
  static func start(
    _ program: QEMUProgram, arguments: [String], monitorPath: String, on hosts: HostPair,
    side: HostPair.Side, folder: RunFolder
  ) throws -> GuestProcess {
    let logPath = folder.file("qemu-\(side.rawValue).log")
    let log = unsafe open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard log >= 0 else { throw LabError("cannot write \(logPath)") }
    defer { close(log) }
    let (command, whole) = hosts.command(on: side, program.path, arguments)
    let process = try ChildProcess(command, whole, output: log)
    try folder.note(process: process.pid)
    return GuestProcess(process: process, logPath: logPath, monitorPath: monitorPath)
  }

  var isAlive: Bool { process.exit == nil }

  /// The monitor, once QEMU opened it.
  func monitor(timeoutMs: UInt64 = 10_000) async throws -> Monitor {
    let startMs = MonotonicClock.nowMs
    while true {
      // The socket's file is there a moment before QEMU listens: a refusal means not yet.
      if SmallFile.exists(monitorPath) {
        do {
          return try await Monitor.connect(path: monitorPath, timeoutMs: timeoutMs)
        } catch {
          guard isAlive, MonotonicClock.nowMs - startMs < timeoutMs else { throw error }
        }
      }
      guard isAlive else { throw LabError("QEMU did not start: \(lastWords)") }
      guard MonotonicClock.nowMs - startMs < timeoutMs else {
        throw LabError("QEMU opened no monitor within \(timeoutMs) ms: \(lastWords)")
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// The last lines of QEMU's log.
  var lastWords: String {
    let lines = ((try? SmallFile.read(logPath)) ?? "").split(separator: "\n").suffix(3)
    return lines.isEmpty ? "it said nothing" : lines.joined(separator: " | ")
  }
}
