import HostIO
import Synchronization

/// Everything a session reacts to, in one queue: threads put in, the session's task takes out.
///
/// Unbounded on purpose: what flows here is bounded at its origin (one tick at a time, control
/// messages, a handful of relay events). Bulk bytes never come by.
final class Mailbox<Element: Sendable>: Sendable {
  private struct State {
    var elements: [Element] = []
    var isClosed = false
    var waiter: (id: UInt64, resume: @Sendable (Element?) -> Void)?
    var nextID: UInt64 = 0
  }

  private let state = Mutex(State())

  /// Elements that nobody took yet.
  var count: Int { state.withLock { $0.elements.count } }

  /// False: the mailbox is closed, and nobody will ever take the element.
  @discardableResult func put(_ element: Element) -> Bool {
    let (resume, isTaken) = state.withLock { state -> ((@Sendable (Element?) -> Void)?, Bool) in
      guard !state.isClosed else { return (nil, false) }
      guard let waiter = state.waiter else {
        state.elements.append(element)
        return (nil, true)
      }
      state.waiter = nil
      return (waiter.resume, true)
    }
    resume?(element)
    return isTaken
  }

  /// Takes nothing more; returns what nobody took.
  func close() -> [Element] {
    state.withLock { state in
      state.isClosed = true
      defer { state.elements = [] }
      return state.elements
    }
  }

  /// The oldest element; nil when none came within `timeoutMs` milliseconds. One taker at a time.
  func take(timeoutMs: UInt64) async -> Element? {
    await withCheckedContinuation { continuation in
      let resume: @Sendable (Element?) -> Void = { continuation.resume(returning: $0) }
      let (ready, id) = state.withLock { state -> (Element?, UInt64) in
        if !state.elements.isEmpty { return (state.elements.removeFirst(), 0) }
        state.nextID += 1
        state.waiter = (state.nextID, resume)
        return (nil, state.nextID)
      }
      if let ready { return resume(ready) }
      Task { [weak self] in
        try? await Task.sleep(nanoseconds: timeoutMs * 1_000_000)
        self?.expire(id)
      }
    }
  }

  private func expire(_ id: UInt64) {
    let resume = state.withLock { state -> (@Sendable (Element?) -> Void)? in
      guard let waiter = state.waiter, waiter.id == id else { return nil }
      state.waiter = nil
      return waiter.resume
    }
    resume?(nil)
  }
}

/// Runs a blocking call off Swift's cooperative pool.
enum Blocking {
  static func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      _ = WorkerThread("gw-blocking") { continuation.resume(with: Result { try body() }) }
    }
  }
}
