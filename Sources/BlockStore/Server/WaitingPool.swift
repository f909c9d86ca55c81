import HostIO
import NBD

/// Threads for requests that may wait for another host: as many as there are such requests, so that none of them
/// keeps another one from being carried out.
final class WaitingPool: Sendable {
  static let threadsMax = 256
  /// How long a thread stays that nobody needs, in milliseconds.
  private static let idleMs: UInt64 = 10_000

  private let queue = JobQueue<RequestJob>()
  private let threadCount = Guarded(0)

  deinit { queue.close() }

  func push(_ job: RequestJob) {
    guard queue.push(job) else { return }
    let starts = threadCount.update { count in
      guard count < Self.threadsMax else { return false }
      count += 1
      return true
    }
    if starts { start() }
  }

  private func start() {
    _ = WorkerThread("block-wait") { [queue, threadCount] in
      let worker = RequestWorker()
      while let job = queue.pop(withinMs: Self.idleMs) { worker.carryOut(job) }
      threadCount.update { $0 -= 1 }
    }
  }
}

extension RequestJob {
  /// Whether it may have to wait for another host, or for another program to let go of the image.
  var mayWait: Bool {
    let store = link.disk.store
    guard !store.isAtRest else { return true }
    switch request.command {
    case .read: return store.mayWait(at: request.offset, count: request.length, writes: false)
    case .write, .writeZeroes, .trim:
      return store.mayWait(at: request.offset, count: request.length, writes: true)
    case .flush, .blockStatus: return store.mayWaitForFlush
    case .cache, .disconnect, .resize: return false
    }
  }
}
