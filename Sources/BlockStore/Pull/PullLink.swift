import HostIO
import Synchronization

/// One connection to the source of a pull. Calls come from any number of threads.
final class PullLink: Sendable {
  let store: RemoteStore
  private let load = Mutex((count: 0, sinceUs: UInt64(0)))

  init(_ store: RemoteStore) { self.store = store }

  var isBroken: Bool { store.isBroken }

  /// Whether the source has owed answers and given none for longer than `limitUs`.
  func isSilent(_ nowUs: UInt64, limitUs: UInt64) -> Bool {
    load.withLock { load in load.count > 0 && nowUs - min(load.sinceUs, nowUs) > limitUs }
  }

  /// Makes a request, whose answer is waited for.
  func ask<Answer>(
    _ body: (RemoteStore) throws(StoreError) -> Answer
  ) throws(StoreError) -> Answer {
    let startUs = MonotonicClock.nowUs
    load.withLock { load in
      if load.count == 0 { load.sinceUs = startUs }
      load.count += 1
    }
    defer {
      let endUs = MonotonicClock.nowUs
      load.withLock { load in
        load.count -= 1
        load.sinceUs = endUs
      }
    }
    return try body(store)
  }

  func close() { store.close() }
}
