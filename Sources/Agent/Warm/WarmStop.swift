import HostIO

/// How a copy of a guest's memory is called off from outside, whatever it waits for just then: its pace or the
/// network.
final class WarmStop: Sendable {
  private struct State {
    var isCalled = false
    /// What the pass reads and writes; nil: it has not begun, or is over.
    var socket: (any ByteConnection)?
  }

  private let state = Guarded(State())

  /// Nobody wants the copy any more.
  func call() {
    let socket = state.update { state in
      state.isCalled = true
      return state.socket
    }
    socket?.shutdown()
  }

  var isCalled: Bool { state.read { $0.isCalled } }

  /// From now on the pass may wait for this connection; nil: for none.
  func watch(_ socket: (any ByteConnection)?) {
    let isCalled = state.update { state in
      state.socket = socket
      return state.isCalled
    }
    if isCalled { socket?.shutdown() }
  }

  /// Waits, and throws as soon as the copy is called off.
  func pause(ms: UInt64) throws(CancellationError) {
    if state.wait(timeoutMs: ms, until: { $0.isCalled ? true : nil }) != nil {
      throw CancellationError()
    }
  }
}
