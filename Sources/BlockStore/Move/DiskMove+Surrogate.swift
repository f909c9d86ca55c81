import DiskStrategy
import HostIO

/// The surrogate of a move.
extension DiskMove {
  /// Between two looks whether the one before is empty, in microseconds.
  private static let pollUs: UInt64 = 20_000
  private static let openCount = 50

  /// Brings the surrogate into use; returns at once.
  ///
  /// - Parameters:
  ///   - link: its log; nil: it is opened once what is in the one before has gone back to the disk.
  ///   - settle: waits until all calls that began before have returned.
  func useSurrogate(
    _ wish: SurrogateWish, _ link: SurrogateLink?, path: String, identity: String,
    settle: @escaping @Sendable () -> Void
  ) {
    state.update { state in
      state.threadCount += 1
      state.settle = settle
    }
    // Requests that are waited for may take as long as they like, and the leader must not.
    thread("move-surrogate") { move in
      while move.source.isInUse {
        guard move.state.read({ $0.stage.isMoving }) else { return }
        MonotonicClock.sleep(us: Self.pollUs)
      }
      var opened = link
      do {
        let link = try opened ?? Self.open(wish.place)
        opened = link
        try move.source.begin(wish, link, path: path, identity: identity, settle: settle)
      } catch {
        opened?.clear()
        move.stop("the surrogate can't be used, go on without: \(error)")
      }
      // Ended before it had begun.
      if move.state.read({ $0.isOver }) { move.source.giveBack() }
    }
  }

  /// Opens a place that was in use a moment ago: its lock goes with the last call that read there.
  private static func open(_ place: SurrogatePlace) throws -> SurrogateLink {
    for _ in 0..<openCount {
      if let link = try? SurrogateLink.make(place) { return link }
      MonotonicClock.sleep(us: pollUs)
    }
    return try SurrogateLink.make(place)
  }

  /// The disk is elsewhere, with all that the surrogate had.
  func dropSurrogate() {
    guard source.isInUse else { return }
    let settle = state.update { state -> (@Sendable () -> Void)? in
      guard !state.isDropping, let settle = state.settle else { return nil }
      (state.isDropping, state.threadCount) = (true, state.threadCount + 1)
      return settle
    }
    guard let settle else { return }
    thread("move-surrogate") { move in
      move.source.discard(settle: settle)
      move.state.update { $0.isDropping = false }
    }
  }
}
