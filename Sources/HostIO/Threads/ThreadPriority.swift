import Glibc

/// How soon a thread gets a processor where more threads want one than there are processors.
///
/// A guest that waits for a page waits for a chain of threads on two hosts, and each of them may find every
/// processor taken by some guest's vCPU for milliseconds. They use little time themselves, so that they go
/// first costs others little. Where the process may not ask for that (`CAP_SYS_NICE`) all stays as it is.
enum ThreadPriority {
  private static let process = __priority_which_t(PRIO_PROCESS.rawValue)
  /// The process's niceness as of `setpriority(2)`, -20 to 19: lower goes first.
  private static let usual = getpriority(process, id_t(getpid()))
  private static let first = max(usual - 10, -20)

  /// Lets the calling thread go first, and what it starts, unless that is a `WorkerThread` or a process.
  static func raiseCalling() { _ = setpriority(process, 0, first) }

  static func restoreCalling() { _ = setpriority(process, 0, usual) }
}
