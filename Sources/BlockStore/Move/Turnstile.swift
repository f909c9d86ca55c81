import HostIO
import Synchronization

/// Counts calls that are inside, so that a change of what they use can wait for those that came before
/// it, while new ones come in.
final class Turnstile: Sendable {
  private let epoch = Atomic<UInt64>(0)
  private let even = Atomic<Int>(0)
  private let odd = Atomic<Int>(0)
  private let turning = Mutex(())

  /// How often `turn` looks, in microseconds.
  private static let pollUs: UInt64 = 200

  /// Returns what `leave` has to be given.
  func enter() -> UInt64 {
    while true {
      let now = epoch.load(ordering: .sequentiallyConsistent)
      add(1, to: now)
      // Counted in an epoch that was over, nobody would wait for it.
      if epoch.load(ordering: .sequentiallyConsistent) == now { return now }
      add(-1, to: now)
    }
  }

  func leave(_ entered: UInt64) { add(-1, to: entered) }

  /// Waits until all calls that came in before have left. A second caller waits for the first: two turns at once
  /// would each wait for the calls of one epoch alone.
  func turn() {
    turning.withLock { _ in
      let now = epoch.load(ordering: .sequentiallyConsistent)
      epoch.store(now &+ 1, ordering: .sequentiallyConsistent)
      while count(now) != 0 { MonotonicClock.sleep(us: Self.pollUs) }
    }
  }

  private func add(_ difference: Int, to epoch: UInt64) {
    if epoch & 1 == 0 {
      even.wrappingAdd(difference, ordering: .sequentiallyConsistent)
    } else {
      odd.wrappingAdd(difference, ordering: .sequentiallyConsistent)
    }
  }

  private func count(_ epoch: UInt64) -> Int {
    epoch & 1 == 0
      ? even.load(ordering: .sequentiallyConsistent) : odd.load(ordering: .sequentiallyConsistent)
  }
}
