import Synchronization

/// Events, and the connection's end, for whoever waits for them.
extension QMPClient {
  /// Events from now on; each caller gets all of them. Ends with the connection. A subscriber that
  /// falls `eventDepthMax` behind loses the oldest.
  public func events() -> AsyncStream<QMPEvent> {
    let (stream, continuation) = AsyncStream<QMPEvent>.makeStream(
      bufferingPolicy: .bufferingNewest(Self.eventDepthMax))
    let id: UInt64? = state.withLock { state in
      guard state.closedDetail == nil, state.subscribers.count < Self.subscriberCountMax else {
        return nil
      }
      defer { state.nextID += 1 }
      state.subscribers[state.nextID] = continuation
      return state.nextID
    }
    guard let id else {
      continuation.finish()
      return stream
    }
    continuation.onTermination = { [weak self] _ in
      // The removed continuation is let go of outside the lock: its end may call back here.
      let removed = self?.state.withLock { $0.subscribers.removeValue(forKey: id) }
      _ = removed
    }
    return stream
  }

  /// Returns when the connection has ended, or when the caller's task is cancelled.
  public func closed() async {
    let id = state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        let isWaiting = state.withLock { state in
          guard state.closedDetail == nil else { return false }
          state.closeWaiters[id] = { continuation.resume() }
          return true
        }
        if !isWaiting { return continuation.resume() }
        if Task.isCancelled { dropCloseWaiter(id) }
      }
    } onCancel: {
      dropCloseWaiter(id)
    }
  }

  private func dropCloseWaiter(_ id: UInt64) {
    state.withLock { $0.closeWaiters.removeValue(forKey: id) }?()
  }
}
