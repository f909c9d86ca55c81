import DiskStrategy
import HostIO
import NBD

/// The guest's reads while its disk moves, and what goes to a destination that is the disk.
extension DiskMove {
  /// Bytes that are read around a small read of the guest's, as one: the head is there already.
  static let aroundByteCount: UInt64 = 64 << 10

  func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    let startUs = guestStart
    defer { guestEnd(startUs) }
    switch plan(offset, UInt64(target.count)) {
    case .plain: try unsafe source.read(at: offset, into: target)
    case .remote:
      try remote { link throws(StoreError) in try unsafe link.read(at: offset, into: target) }
    case .forward(let run, let link):
      let range = geometry.bytes(of: run)
      let buffer = PageBuffer(byteCount: Int(range.upperBound - range.lowerBound))
      // SAFETY: the buffer is this call's own until the queue has it.
      let part = unsafe buffer.part(0, buffer.byteCount)
      do throws(StoreError) {
        try unsafe source.read(at: range.lowerBound, into: part)
        try unsafe take(part, range, offset, target)
      } catch {
        state.update { $0.end(run, arrived: false, over: link) }
        // Only what the guest asked for may fail its read, not what lies around it.
        return try unsafe source.read(at: offset, into: target)
      }
      queue(ForwardedRun(blocks: run, data: buffer), link)
    }
  }

  /// As `DiskStore.readAtOnce`: what is in memory is forwarded, too.
  func readAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool? {
    switch plan(offset, UInt64(target.count), isExact: true) {
    case .plain:
      let startUs = guestStart
      let isDone = unsafe source.readAtOnce(at: offset, into: target)
      if isDone == true { guestEnd(startUs) }
      return isDone
    case .remote: return false
    case .forward(let run, let link):
      let wasThere = unsafe source.readAtOnce(at: offset, into: target)
      guard wasThere == true else {
        state.update { $0.end(run, arrived: false, over: link) }
        return wasThere
      }
      let range = geometry.bytes(of: run)
      let start = Int(range.lowerBound - offset)
      let data = PageBuffer(byteCount: Int(range.upperBound - range.lowerBound))
      // SAFETY: the run is within what was read; the slice is bounds-checked.
      unsafe data.part(0, data.byteCount).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: target[start..<(start + data.byteCount)]))
      queue(ForwardedRun(blocks: run, data: data), link)
      return true
    }
  }

  private enum Plan: Sendable { case plain, remote, forward(Range<Int>, MoveLink) }

  /// - Parameter isExact: nothing around the range is to be read.
  private func plan(_ offset: UInt64, _ count: UInt64, isExact: Bool = false) -> Plan {
    state.update { state in
      switch state.stage {
      case .switched, .over(.switched): return .remote
      case .idle, .over: return .plain
      case .moving: break
      }
      let blocks = geometry.touched(at: offset, count: count)
      state.order.noteGuest(blocks, nowUs: MonotonicClock.nowUs)
      guard state.decision.forwardsReads, let link = state.openLink,
        blocks.count <= ForwardedRun.blocksMax, state.queuedBytes < MoveState.queueBytesMax
      else { return .plain }
      if !isExact, state.decision.widensReads, count <= Self.aroundByteCount {
        let start = offset & ~(Self.aroundByteCount - 1)
        let end = (offset + count + Self.aroundByteCount - 1) & ~(Self.aroundByteCount - 1)
        let around = geometry.touched(at: start, count: end - start)
        if state.map.freeRun(in: around) == around {
          state.map.begin(around)
          return .forward(around, link)
        }
      }
      let covered = geometry.covered(at: offset, count: count)
      guard isExact || covered == blocks, let run = state.map.freeRun(in: covered),
        isExact || run == covered
      else { return .plain }
      state.map.begin(run)
      return .forward(run, link)
    }
  }

  /// Gives the guest its part of what was read.
  private func take(
    _ part: UnsafeMutableRawBufferPointer, _ range: Range<UInt64>, _ offset: UInt64,
    _ target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    let start = Int(offset - range.lowerBound)
    // SAFETY: the slice is bounds-checked; the buffers are different ones.
    unsafe target.copyMemory(
      from: UnsafeRawBufferPointer(rebasing: part[start..<(start + target.count)]))
  }

  /// The run is on its way already, as the map has it.
  private func queue(_ run: ForwardedRun, _ link: MoveLink) {
    state.update { state in
      guard state.openLink?.id == link.id, state.stage.isMoving else {
        return state.end(run.blocks, arrived: false, over: link)
      }
      state.queue.append(run)
      state.queuedBytes += run.byteCount
    }
  }

  /// Carries something out at the destination, which is the disk. Waits for a connection as QEMU would.
  func remote<R>(
    _ body: (MoveLink) throws(StoreError) -> R
  ) throws(StoreError) -> R {
    var deadlineMs = MonotonicClock.nowMs + Self.patienceMs
    var attempts = 0
    while true {
      let link = state.read { $0.stage.isSwitched ? $0.link : nil }
      if let link {
        do throws(StoreError) {
          return try body(link)
        } catch {
          attempts += 1
          guard link.isBroken, attempts < Self.attemptsMax else { throw error }
        }
        // The time until it broke was none in which nobody was there.
        deadlineMs = MonotonicClock.nowMs + Self.patienceMs
      }
      guard MonotonicClock.nowMs < deadlineMs, state.read({ $0.stage.isSwitched }) else {
        throw StoreError(.inputOutput, "the destination of this disk can't be reached")
      }
      MonotonicClock.sleep(us: 20_000)
    }
  }
}
