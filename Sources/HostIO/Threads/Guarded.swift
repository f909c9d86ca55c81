import Glibc

/// A value behind a mutex whose changes threads can wait for (a monitor whose conditions are tested again
/// after each change).
///
/// `Synchronization.Mutex` has no condition variable; this is for bulk threads only.
@safe
public final class Guarded<Value>: @unchecked Sendable {
  // Unchecked: `value` is only touched with `mutex` held.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var value: Value

  /// Takes `value` over: nobody else may have a hold of what it refers to.
  public init(_ value: sending Value) {
    self.value = value
    unsafe mutex = .allocate(capacity: 1)
    unsafe condition = .allocate(capacity: 1)
    // SAFETY: freshly allocated, initialised once, destroyed in deinit. Monotonic clock: time-outs
    // must not depend on the wall clock.
    unsafe pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    unsafe pthread_cond_init(condition, &attributes)
    unsafe pthread_condattr_destroy(&attributes)
  }

  deinit {
    unsafe pthread_cond_destroy(condition)
    unsafe pthread_mutex_destroy(mutex)
    unsafe condition.deallocate()
    unsafe mutex.deallocate()
  }

  /// Runs `body` with the lock held and wakes every waiter afterwards.
  @discardableResult
  public func update<R, E: Error>(_ body: (inout Value) throws(E) -> R) throws(E) -> R {
    unsafe pthread_mutex_lock(mutex)
    defer {
      unsafe pthread_cond_broadcast(condition)
      unsafe pthread_mutex_unlock(mutex)
    }
    return try body(&value)
  }

  /// Runs `body` with the lock held, waking nobody: for looks.
  public func read<R>(_ body: (Value) -> R) -> R {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return body(value)
  }

  /// Waits until `body` gives something; it runs with the lock held, again after every `update`.
  ///
  /// Returns nil only after `timeoutMs` milliseconds (nil: never). Wakes others when it succeeds.
  public func wait<R>(timeoutMs: UInt64? = nil, until body: (inout Value) -> R?) -> R? {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    var deadline = timespec()
    if let timeoutMs {
      unsafe clock_gettime(CLOCK_MONOTONIC, &deadline)
      deadline.tv_sec += Int(timeoutMs / 1000)
      deadline.tv_nsec += Int(timeoutMs % 1000) * 1_000_000
      if deadline.tv_nsec >= 1_000_000_000 {
        deadline.tv_nsec -= 1_000_000_000
        deadline.tv_sec += 1
      }
    }
    while true {
      if let result = body(&value) {
        unsafe pthread_cond_broadcast(condition)
        return result
      }
      if timeoutMs == nil {
        unsafe pthread_cond_wait(condition, mutex)
      } else if unsafe pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT {
        return body(&value)
      }
    }
  }
}
