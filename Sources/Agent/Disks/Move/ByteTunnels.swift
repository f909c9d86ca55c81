import Base
import HostIO

/// Pairs of connections that pass bytes on to one another, both ways, until either ends; then both are over.
final class ByteTunnels: Sendable {
  static let bufferBytes = 256 << 10

  private struct State {
    var open: [UInt64: Pair] = [:]
    var nextID: UInt64 = 1
    var isOver = false
    /// From the near side to the far one.
    var sentBytes: UInt64 = 0
  }

  private struct Pair {
    let near, far: any ByteConnection
    /// Directions that still run.
    var running = 2
  }

  private let state = Guarded(State())
  /// How long to wait before so many bytes go to the far side, in microseconds.
  private let pace: @Sendable (UInt64) -> UInt64
  /// Sees what goes to the far side, which is a client's; nil: nobody does.
  private let copied: CopiedDisks?

  init(
    copied: CopiedDisks? = nil, pace: @escaping @Sendable (UInt64) -> UInt64 = { _ in 0 }
  ) {
    (self.copied, self.pace) = (copied, pace)
  }

  var sentBytes: UInt64 { state.read { $0.sentBytes } }
  var openCount: Int { state.read { $0.open.count } }

  /// Starts the two directions; a pair that comes after `cut` is closed at once.
  func join(_ near: any ByteConnection, _ far: any ByteConnection) {
    let id = state.update { state -> UInt64? in
      guard !state.isOver else { return nil }
      defer { state.nextID += 1 }
      state.open[state.nextID] = Pair(near: near, far: far)
      return state.nextID
    }
    guard let id else {
      near.shutdown()
      return far.shutdown()
    }
    _ = WorkerThread("gw-disk-tx") { [self] in
      var watch = copied?.watch()
      carry(near, far, id) { [self] bytes in
        let count = UInt64(bytes.byteCount)
        watch?.passed(bytes)
        state.update { $0.sentBytes += count }
        let delayUs = pace(count)
        if delayUs > 0 { MonotonicClock.sleep(us: delayUs) }
      }
    }
    _ = WorkerThread("gw-disk-rx") { [self] in carry(far, near, id) { _ in } }
  }

  /// Ends all pairs at once, and those that are still to come.
  func cut() {
    let open = state.update { state in
      state.isOver = true
      return Array(state.open.values)
    }
    for pair in open {
      pair.near.shutdown()
      pair.far.shutdown()
    }
  }

  private func carry(
    _ from: any ByteConnection, _ to: any ByteConnection, _ id: UInt64,
    _ note: (RawSpan) -> Void
  ) {
    let buffer = PageBuffer(byteCount: Self.bufferBytes)
    while true {
      // SAFETY: the buffer is this thread's alone.
      let count = (try? unsafe from.read(into: buffer.part(0, buffer.byteCount))) ?? 0
      guard count > 0 else { break }
      note(buffer.span(count))
      do { try to.writeAll(buffer.span(count)) } catch { break }
    }
    from.shutdown()
    to.shutdown()
    state.update { state in
      state.open[id]?.running -= 1
      if state.open[id]?.running == 0 { state.open[id] = nil }
    }
  }
}
