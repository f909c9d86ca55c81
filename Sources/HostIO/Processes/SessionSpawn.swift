import CLinux
import Glibc

/// Starts a program as the leader of a session of its own, so that no terminal's signals reach it:
/// default signals, an empty signal mask.
enum SessionSpawn {
  /// Where standard output and error go, both together.
  enum Output {
    case nowhere
    case descriptor(Int32)
    /// Appended to a file of mode 0600.
    case file(String)
  }

  /// - Parameters:
  ///   - program: searched for along `PATH` unless it holds a slash.
  ///   - environment: all that the child gets, `NAME=value`; nil: this process's own.
  ///   - input: a descriptor that becomes standard input; nil: `/dev/null`.
  ///   - isDaemon: also leaves this process's descriptors and working directory behind.
  static func start(
    _ program: String, _ arguments: [String], environment: [String]?, input: Int32? = nil,
    output: Output, isDaemon: Bool
  ) throws(SystemError) -> pid_t {
    // A pool's thread may have been started by one that goes first; no guest is to inherit that.
    ThreadPriority.restoreCalling()
    // SAFETY: both objects are initialised here, passed by address for each call only, and destroyed
    // once; the C strings live until posix_spawn has returned.
    var actions = unsafe posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    unsafe posix_spawn_file_actions_init(&actions)
    unsafe posix_spawnattr_init(&attributes)
    defer {
      unsafe posix_spawn_file_actions_destroy(&actions)
      unsafe posix_spawnattr_destroy(&attributes)
    }
    if let input {
      unsafe posix_spawn_file_actions_adddup2(&actions, input, 0)
    } else {
      unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    }
    switch output {
    case .nowhere: unsafe posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
    case .descriptor(let raw): unsafe posix_spawn_file_actions_adddup2(&actions, raw, 1)
    case .file(let path):
      unsafe posix_spawn_file_actions_addopen(
        &actions, 1, path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600)
    }
    unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
    if isDaemon {
      let prepared = unsafe godwit_spawn_daemon_actions(&actions, "/")
      guard prepared == 0 else { throw SystemError("prepare to start \(program)", code: prepared) }
    }
    // Signals that this process ignores or blocks must work in the child.
    var signals = sigset_t()
    unsafe sigfillset(&signals)
    unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
    unsafe sigemptyset(&signals)
    unsafe posix_spawnattr_setsigmask(&attributes, &signals)
    unsafe posix_spawnattr_setflags(
      &attributes,
      Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK) | godwit_spawn_new_session())

    var pid: pid_t = 0
    let result = unsafe withCStrings([program] + arguments) { argv in
      guard let environment else {
        return unsafe posix_spawnp(&pid, program, &actions, &attributes, argv, environ)
      }
      return unsafe withCStrings(environment) { envp in
        unsafe posix_spawnp(&pid, program, &actions, &attributes, argv, envp)
      }
    }
    guard result == 0 else { throw SystemError("start \(program)", code: result) }
    return pid
  }

  /// Calls `body` with a null-terminated array of C strings.
  private static func withCStrings<R>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R
  ) -> R {
    let pointers = unsafe strings.map { unsafe strdup($0) } + [nil]
    defer { for index in unsafe pointers.indices { unsafe free(pointers[index]) } }
    return unsafe body(pointers)
  }
}
