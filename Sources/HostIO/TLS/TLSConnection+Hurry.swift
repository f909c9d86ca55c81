import NIOCore
import NIOPosix
import Synchronization

extension TLSConnection {
  /// How many want the event loops to go first.
  private static let hurries = Mutex(0)

  /// Runs `body`, and lets the threads that encrypt go before others meanwhile, where any of `connections` needs
  /// them: a guest waits for what comes over these (`ThreadPriority`).
  public static func hurried<Result>(
    for connections: [any ByteConnection], _ body: () -> Result
  ) -> Result {
    guard connections.contains(where: { $0 is TLSConnection }) else { return body() }
    hurries.withLock { count in
      count += 1
      if count == 1 { onEveryLoop { ThreadPriority.raiseCalling() } }
    }
    defer {
      hurries.withLock { count in
        count -= 1
        if count == 0 { onEveryLoop { ThreadPriority.restoreCalling() } }
      }
    }
    return body()
  }

  private static func onEveryLoop(_ body: @escaping @Sendable () -> Void) {
    for loop in loops.makeIterator() { loop.execute(body) }
  }
}
