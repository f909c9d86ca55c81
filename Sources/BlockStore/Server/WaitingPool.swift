import HostIO
import NBD

/// Threads for requests that may wait for another host: as many as there are such requests, so that none of them
/// keeps another one from being carried out.
final class WaitingPool: Sendable {
  static let threadsMax = 256
  /// How long a thread stays that nobody needs, in milliseconds.
  private static let idleMs: UInt64 = 10_000

  fileprivate struct State: Sendable {
    var jobs: [RequestJob] = []
    var threadCount = 0
    /// Threads that have nothing to do, or are about to look for it.
    var idleCount = 0
  }
  private let state = Guarded(State())

  func push(_ job: RequestJob) {
    let starts = state.update { state in
      state.jobs.append(job)
      guard state.idleCount < state.jobs.count, state.threadCount < Self.threadsMax else {
        return false
      }
      state.threadCount += 1
      state.idleCount += 1
      return true
    }
    guard starts else { return }
    _ = WorkerThread("block-wait") { [self] in
      let worker = RequestWorker()
      while let job = next() {
        worker.carryOut(job)
        state.update { $0.idleCount += 1 }
      }
    }
  }

  /// nil: nobody needs the thread.
  private func next() -> RequestJob? {
    if let job = state.wait(timeoutMs: Self.idleMs, until: { $0.take() }) { return job }
    return state.update { state in
      if let job = state.take() { return job }
      state.idleCount -= 1
      state.threadCount -= 1
      return nil
    }
  }
}

extension WaitingPool.State {
  fileprivate mutating func take() -> RequestJob? {
    guard !jobs.isEmpty else { return nil }
    idleCount -= 1
    return jobs.removeFirst()
  }
}

extension RequestJob {
  /// Whether it may have to wait for another host, or for another program to let go of the image.
  var mayWait: Bool {
    let store = link.disk.store
    guard !store.isAtRest else { return true }
    switch request.command {
    case .read: return store.mayWait(at: request.offset, count: request.length, writes: false)
    case .write, .writeZeroes:
      return store.mayWait(at: request.offset, count: request.length, writes: true)
    case .trim, .flush, .cache, .blockStatus, .disconnect, .resize: return false
    }
  }
}
