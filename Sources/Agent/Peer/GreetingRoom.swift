import HostIO

/// Connections that have not said who they are. When there are too many, the oldest must go: who
/// says hello at once gets in, however many others connect and stay silent.
final class GreetingRoom: Sendable {
  private struct State {
    var waiting: [any ByteConnection] = []
    /// Threads that greet; those whose connection had to go end soon.
    var threads = 0
  }

  private let state = Guarded(State())
  private let waitingMax: Int

  init(waitingMax: Int) { self.waitingMax = waitingMax }

  /// Blocks only while threads of connections that had to go are still ending.
  func enter(_ socket: any ByteConnection) {
    let oldest = state.wait { state -> (any ByteConnection)?? in
      guard state.threads < self.waitingMax * 2 else { return nil }
      state.threads += 1
      state.waiting.append(socket)
      return state.waiting.count > self.waitingMax ? .some(state.waiting.removeFirst()) : .some(nil)
    }
    if let oldest = oldest ?? nil { oldest.shutdown() }
  }

  /// The connection said hello, or is gone; its thread ends.
  func leave(_ socket: any ByteConnection) {
    state.update { state in
      state.waiting.removeAll { $0 === socket }
      state.threads -= 1
    }
  }
}
