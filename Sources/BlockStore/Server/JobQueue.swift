import Glibc

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
    unsafe pthread_cond_init(condition, nil)
  }

  deinit {
    unsafe pthread_cond_destroy(condition)
    unsafe pthread_mutex_destroy(mutex)
    unsafe condition.deallocate()
    unsafe mutex.deallocate()
  }

  func push(_ job: Job) {
    unsafe pthread_mutex_lock(mutex)
    jobs.append(job)
    let wakes = idleCount > 0
    unsafe pthread_mutex_unlock(mutex)
    if wakes { unsafe pthread_cond_signal(condition) }
  }

  /// Waits for work; nil once the queue is closed and empty.
  func pop() -> Job? {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    while first == jobs.count {
      if isClosed { return nil }
      idleCount += 1
      unsafe pthread_cond_wait(condition, mutex)
      idleCount -= 1
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
