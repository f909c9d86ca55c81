import CLinux
import Glibc
import Synchronization

/// Why a program could not be started or did not do what it was started for.
public struct SpawnError: Error, CustomStringConvertible, Sendable {
  public let program: String
  /// What went wrong, with the system's own words.
  public let detail: String

  public init(program: String, detail: String) { (self.program, self.detail) = (program, detail) }
  public var description: String { "\(program): \(detail)" }
}

/// How a program ended.
public enum ProcessExit: Sendable, Equatable, CustomStringConvertible {
  case code(Int32)
  case signal(Int32)

  /// Only exit code 0.
  public var isSuccess: Bool { self == .code(0) }
  public var description: String {
    switch self {
    case .code(let code): "exit code \(code)"
    case .signal(let number): "signal \(number)"
    }
  }
}

/// A child of this process, in a session of its own: a Ctrl-C in the terminal does not reach it.
///
/// A thread waits for its end; signals are sent only while that thread has not reaped it, so they
/// never hit a stranger that got the same process id.
public final class ChildProcess: Sendable {
  public let pid: Int32
  public let program: String

  private struct State {
    var exit: ProcessExit?
    var waiters: [CheckedContinuation<ProcessExit, Never>] = []
  }
  private let state = Mutex(State())

  /// Starts `program` (looked up in PATH). Standard input is the file descriptor `input`, standard output and error
  /// go to `output` (nil: `/dev/null`); all other
  /// descriptors of this process are close-on-exec.
  public init(
    _ program: String, _ arguments: [String], input: Int32? = nil, output: Int32? = nil
  ) throws(SpawnError) {
    self.program = program
    pid = try Self.spawn(program, arguments, input: input, output: output)
    _ = WorkerThread("wait-\(pid)") { [self] in reap() }
  }

  /// The end, once it came.
  public var exit: ProcessExit? { state.withLock { $0.exit } }

  /// Waits for the end; any number of callers, also after it. Cancelling the task doesn't end the
  /// wait.
  public func wait() async -> ProcessExit {
    await withCheckedContinuation { continuation in
      let exit = state.withLock { state in
        if state.exit == nil { state.waiters.append(continuation) }
        return state.exit
      }
      if let exit { continuation.resume(returning: exit) }
    }
  }

  /// Sends a signal; does nothing when the process has ended.
  public func send(signal: Int32) {
    state.withLock { if $0.exit == nil { _ = kill(pid, signal) } }
  }

  /// SIGTERM, and SIGKILL when that did not end it within `graceMs`. Returns once it has ended.
  public func terminate(graceMs: UInt64 = 2000) async {
    send(signal: SIGTERM)
    let killer = Task {
      try await Task.sleep(for: .milliseconds(graceMs))
      send(signal: SIGKILL)
    }
    _ = await wait()
    killer.cancel()
  }

  private func reap() {
    var info = unsafe siginfo_t()
    // WNOWAIT first: the process id stays ours until the state says that it ended.
    while unsafe waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
    let waiters = state.withLock { state in
      var status: Int32 = 0
      while unsafe waitpid(pid, &status, 0) < 0 && errno == EINTR {}
      let exit: ProcessExit =
        status & 0x7F == 0 ? .code(status >> 8 & 0xFF) : .signal(status & 0x7F)
      state.exit = exit
      defer { state.waiters = [] }
      return state.waiters.map { ($0, exit) }
    }
    for (waiter, exit) in waiters { waiter.resume(returning: exit) }
  }

  private static func spawn(
    _ program: String, _ arguments: [String], input: Int32?, output: Int32?
  ) throws(SpawnError) -> Int32 {
    do {
      return try SessionSpawn.start(
        program, arguments, environment: nil, input: input,
        output: output.map { .descriptor($0) } ?? .nowhere, isDaemon: false)
    } catch {
      throw SpawnError(program: program, detail: "cannot start: \(error)")
    }
  }
}
