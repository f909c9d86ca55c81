import Glibc
import Synchronization

/// TCP ports for servers that have to be told theirs: none that the kernel gives to others' connections, and each once in
/// this process, for tests that run beside each other; other runs of the tests begin elsewhere.
enum TestPort {
  private static let (first, count) = (20_000, 12_000)
  private static let taken = Atomic<Int>(Int(getpid()) * 128)

  static func next() -> Int {
    first + taken.wrappingAdd(1, ordering: .relaxed).oldValue % count
  }
}
