import Glibc
import Synchronization

/// SIGINT, SIGTERM and SIGHUP don't end the process while one of these is there; whoever has it looks whether one came.
struct HeldSignals {
  private static let numbers = [SIGINT, SIGTERM, SIGHUP]
  /// The last one that came; 0: none.
  private static let caught = Atomic<Int32>(0)

  private let handlers: [(@convention(c) (Int32) -> Void)?]

  init() {
    // Also made here, before a handler uses it.
    Self.caught.store(0, ordering: .sequentiallyConsistent)
    handlers = Self.numbers.map { number in
      signal(number) { HeldSignals.caught.store($0, ordering: .sequentiallyConsistent) }
    }
  }

  /// Since the last of these was made.
  static var wasCaught: Bool { caught.load(ordering: .sequentiallyConsistent) != 0 }

  /// From now on they do what they did before.
  func release() {
    for (number, handler) in zip(Self.numbers, handlers) { _ = signal(number, handler) }
  }
}
