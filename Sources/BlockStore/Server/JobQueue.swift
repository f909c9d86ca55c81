import Glibc
import HostIO

/// Work for a number of threads; each piece wakes one of them.
///
/// `Guarded` wakes all waiters, which is too much for one request.
@safe
final class JobQueue<Job>: @unchecked Sendable {
  // Unchecked: everything is only touched with `mutex` held.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var jobs: [Job?] = []
  private var first = 0
  private var idleCount = 0
  private var isClosed = false

  init() {
    unsafe mutex = .allocate(capacity: 1)
    unsafe condition = .allocate(capacity: 1)
    // SAFETY: freshly allocated, initialised once, destroyed in deinit.
    unsafe pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    // A clock that nobody sets.
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

  /// - Returns: whether there is more work now than threads that wait for it.
  @discardableResult
  func push(_ job: Job) -> Bool {
    unsafe pthread_mutex_lock(mutex)
    jobs.append(job)
    let wakes = idleCount > 0
    let isMore = jobs.count - first > idleCount
    unsafe pthread_mutex_unlock(mutex)
    if wakes { unsafe pthread_cond_signal(condition) }
    return isMore
  }

  /// Waits for work; nil once the queue is closed and empty, or when there was none for so many milliseconds
  /// (nil: for ever).
  func pop(withinMs: UInt64? = nil) -> Job? {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    let deadlineUs = withinMs.map { MonotonicClock.nowUs + $0 * 1000 }
    while first == jobs.count {
      if isClosed { return nil }
      idleCount += 1
      defer { idleCount -= 1 }
      guard let deadlineUs else {
        unsafe pthread_cond_wait(condition, mutex)
        continue
      }
      var time = timespec(
        tv_sec: Int(deadlineUs / 1_000_000), tv_nsec: Int(deadlineUs % 1_000_000) * 1000)
      // What came at the last moment is looked for once more.
      if unsafe pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT, first == jobs.count {
        return nil
      }
    }
    let job = jobs[first]
    jobs[first] = nil
    first += 1
    if first == jobs.count {
      jobs.removeAll(keepingCapacity: true)
      first = 0
    } else if first >= 1024 {
      jobs.removeFirst(first)
      first = 0
    }
    return job
  }

  func close() {
    unsafe pthread_mutex_lock(mutex)
    isClosed = true
    unsafe pthread_mutex_unlock(mutex)
    unsafe pthread_cond_broadcast(condition)
  }
}
