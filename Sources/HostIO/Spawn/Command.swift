import CLinux
import Glibc

/// Short commands whose output is wanted: `ip`, `tc`, `mke2fs`, `qemu --version`.
public enum Command {
  /// Output kept of one command, in bytes; what comes after is dropped.
  public static let outputBytesMax = 1 << 20

  /// How a command ended, be it by the time-out's SIGKILL, and what it said.
  public struct Result: Sendable {
    public let exit: ProcessExit
    /// Standard output and error, together.
    public let output: String
  }

  /// Runs a command to its end; kills it after `timeoutMs`. Throws when it cannot be started.
  public static func execute(
    _ program: String, _ arguments: [String], timeoutMs: UInt64 = 20_000
  ) async throws -> Result {
    // The output goes to a memory file: no pipe that fills up, no reader needed.
    let file = unsafe godwit_memfd_create("godwit-command", 1 /* MFD_CLOEXEC */)
    guard file >= 0 else { throw SpawnError(program: program, detail: "no memory file") }
    defer { close(file) }
    let child = try ChildProcess(program, arguments, output: file)
    let killer = Task {
      try await Task.sleep(for: .milliseconds(timeoutMs))
      child.send(signal: SIGKILL)
    }
    let exit = await child.wait()
    killer.cancel()
    return Result(exit: exit, output: contents(of: file))
  }

  /// Runs a command that has to succeed; the error carries its last line.
  @discardableResult
  public static func run(
    _ program: String, _ arguments: [String], timeoutMs: UInt64 = 20_000
  ) async throws -> String {
    let result = try await execute(program, arguments, timeoutMs: timeoutMs)
    guard result.exit.isSuccess else {
      let line = result.output.split(separator: "\n").last ?? "no output"
      throw SpawnError(
        program: ([program] + arguments).joined(separator: " "), detail: "\(result.exit): \(line)")
    }
    return result.output
  }

  private static func contents(of file: Int32) -> String {
    var bytes = [UInt8]()
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while bytes.count < outputBytesMax {
      // SAFETY: pread gets the chunk's own size.
      let count = unsafe chunk.withUnsafeMutableBytes {
        unsafe pread(file, $0.baseAddress, $0.count, off_t(bytes.count))
      }
      guard count > 0 else { break }
      bytes += chunk[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
