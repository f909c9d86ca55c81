import CLinux
import Glibc
import Synchronization

/// A thread of its own for blocking work; Swift's cooperative pool never blocks.
public final class WorkerThread: Sendable {
  private let handle: Mutex<pthread_t?>

  /// Starts `body` on a new thread.
  ///
  /// - Parameters:
  ///   - name: at most 15 bytes are kept; shown by `ps -L` and `top -H`.
  ///   - isUrgent: a guest stands still until this thread has had its turn (`ThreadPriority`).
  public init(_ name: String, isUrgent: Bool = false, _ body: @escaping @Sendable () -> Void) {
    let box = unsafe Unmanaged.passRetained(Box(name: name, isUrgent: isUrgent, body: body))
    var thread = pthread_t()
    // SAFETY: the box is retained here and released once, by the thread.
    let result = unsafe pthread_create(
      &thread, nil,
      { raw in
        guard let raw = unsafe raw else { return nil }
        let box = unsafe Unmanaged<Box>.fromOpaque(raw).takeRetainedValue()
        unsafe godwit_name_thread(String(box.name.utf8.prefix(15)) ?? "godwit")
        // A thread begins with the priority of the one that starts it.
        if box.isUrgent { ThreadPriority.raiseCalling() } else { ThreadPriority.restoreCalling() }
        box.body()
        return nil
      }, box.toOpaque())
    precondition(result == 0, "the system is out of threads")
    handle = Mutex(thread)
  }

  /// Waits for the end of the body. Blocks: not for async code. Later calls return at once.
  public func join() {
    let thread = handle.withLock { handle in
      defer { handle = nil }
      return handle
    }
    if let thread { _ = pthread_join(thread, nil) }
  }

  deinit {
    if let thread = handle.withLock({ $0 }) { _ = pthread_detach(thread) }
  }

  private final class Box: Sendable {
    let name: String
    let isUrgent: Bool
    let body: @Sendable () -> Void
    init(name: String, isUrgent: Bool, body: @escaping @Sendable () -> Void) {
      (self.name, self.isUrgent, self.body) = (name, isUrgent, body)
    }
  }
}
