import Glibc
import Synchronization

/// An advisory lock on a file (`flock`), freed by the kernel when its holder dies.
public final class FileLock: Sendable {
  private let file: Mutex<Int32?>

  private init(file: Int32) { self.file = Mutex(file) }

  /// Takes the lock when it is free; nil when it is held, here or by another process, or the file system has no locks.
  public static func attempt(_ path: String) throws(SpawnError) -> FileLock? {
    let file = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard file >= 0 else {
      let reason = unsafe String(cString: strerror(errno))
      throw SpawnError(program: path, detail: "cannot open: \(reason)")
    }
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
      close(file)
      return nil
    }
    return FileLock(file: file)
  }

  /// Waits for the lock, looking again every 50 ms, for at most `timeoutMs`.
  public static func acquire(_ path: String, timeoutMs: UInt64 = 900_000) async throws -> FileLock {
    var waitedMs: UInt64 = 0
    while true {
      if let lock = try attempt(path) { return lock }
      guard waitedMs < timeoutMs else {
        throw SpawnError(program: path, detail: "is locked by another process")
      }
      try await Task.sleep(for: .milliseconds(50))
      waitedMs += 50
    }
  }

  /// Lets the lock go; the file stays. Safe to repeat.
  public func release() {
    file.withLock {
      if let open = $0 {
        // A program that is being started has the file open, too, until it runs: closing it here alone frees nothing yet.
        _ = flock(open, LOCK_UN)
        close(open)
      }
      $0 = nil
    }
  }

  deinit { release() }
}
