import DiskStrategy
import HostIO
import NBD
import Synchronization

/// The guest's requests while its disk is pulled.
extension DiskPull {
  /// Whether a request would have to wait for the source.
  func mayWait(at offset: UInt64, count: UInt64, writes: Bool) -> Bool {
    let touched = geometry.touched(at: offset, count: count)
    guard !touched.isEmpty else { return false }
    let parts = writes ? edges(of: touched, at: offset, count) : [touched]
    return state.read { state in !parts.allSatisfy { state.map.isHere($0) } }
  }

  // MARK: Reads

  func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    let blocks = noteGuest(offset, UInt64(target.count))
    guard try bring(blocks) == nil else {
      // What can't be kept here can be read all the same.
      return try unsafe readThrough(blocks, at: offset, into: target)
    }
    try unsafe store.read(at: offset, into: target)
  }

  func readAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool? {
    let blocks = noteGuest(offset, UInt64(target.count))
    let isHere = state.read { state in !state.isCancelled && state.map.isHere(blocks) }
    return isHere ? unsafe store.readAtOnce(at: offset, into: target) : false
  }

  private func noteGuest(_ offset: UInt64, _ count: UInt64) -> Range<Int> {
    let blocks = geometry.touched(at: offset, count: count)
    if !blocks.isEmpty { guest.withLock { $0 = (blocks, MonotonicClock.nowUs) } }
    return blocks
  }

  /// Waits until the blocks are here, and fetches what nobody else does. What is returned kept them from being
  /// stored; thrown is what the source said, or that it can't be reached: that nothing of them has come for so long.
  private func bring(_ blocks: Range<Int>) throws(StoreError) -> StoreError? {
    if state.read({ !$0.isCancelled && $0.map.isHere(blocks) }) { return nil }
    let startUs = MonotonicClock.nowUs
    var deadlineMs = startUs / 1000 + limits.patienceMs
    var first = blocks.lowerBound
    var isDone = false
    state.update { $0.waitingCount += 1 }
    defer {
      let endUs = MonotonicClock.nowUs
      state.update { $0.endFault(from: startUs, endUs, isDone: isDone) }
    }
    while true {
      let nowMs = MonotonicClock.nowMs
      guard nowMs < deadlineMs else { throw PullState.unreachable }
      let step = state.wait(timeoutMs: deadlineMs - nowMs) { $0.step(blocks, since: first) }
      switch step {
      case nil: continue
      case .refused(let error)?: throw error
      case .here?:
        isDone = true
        return nil
      case .comes(let next)?:
        (first, deadlineMs) = (next, MonotonicClock.nowMs + limits.patienceMs)
      case .fetch(let tickets, let link)?:
        defer { state.update { $0.fetchCount -= 1 } }
        do throws(StoreError) {
          if let problem = try fetch(tickets, over: link, into: nil) {
            isDone = true
            return problem
          }
          deadlineMs = MonotonicClock.nowMs + limits.patienceMs
        } catch {
          // Over the next connection.
          if !link.isBroken { throw error }
        }
      }
    }
  }

  /// Reads what is here from the image, and the rest from the source without storing it.
  private func readThrough(
    _ blocks: Range<Int>, at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    let end = offset + UInt64(target.count)
    var deadlineMs = MonotonicClock.nowMs + limits.patienceMs
    var first = blocks.lowerBound
    while first < blocks.upperBound {
      let nowMs = MonotonicClock.nowMs
      guard nowMs < deadlineMs else { throw PullState.unreachable }
      let rest = first..<blocks.upperBound
      let step = state.wait(timeoutMs: deadlineMs - nowMs) { $0.readStep(rest) }
      guard let step else { continue }
      if case .refused(let error) = step { throw error }
      let range = geometry.bytes(of: step.blocks)
      let (start, stop) = (max(range.lowerBound, offset), min(range.upperBound, end))
      // SAFETY: the slice is bounds-checked, and the caller keeps the buffer for the call.
      let part = unsafe UnsafeMutableRawBufferPointer(
        rebasing: target[Int(start - offset)..<Int(stop - offset)])
      if case .source(_, let link) = step {
        do throws(StoreError) {
          try unsafe readOver(link, range, from: start, into: part)
        } catch {
          if link.isBroken { continue }
          throw error
        }
      } else {
        try unsafe store.read(at: start, into: part)
      }
      (first, deadlineMs) = (step.blocks.upperBound, MonotonicClock.nowMs + limits.patienceMs)
    }
  }

  /// Whole blocks are asked for: the source may not take less.
  private func readOver(
    _ link: RemoteStore, _ range: Range<UInt64>, from start: UInt64,
    into part: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    let buffer = PageBuffer(byteCount: Int(range.upperBound - range.lowerBound))
    // SAFETY: the buffer is this call's own.
    let whole = unsafe buffer.part(0, buffer.byteCount)
    try unsafe link.read(at: range.lowerBound, into: whole)
    unsafe part.copyMemory(
      from: UnsafeRawBufferPointer(
        buffer.part(Int(start - range.lowerBound), part.count)))
  }

  // MARK: Changes

  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    let isPlain = try change(at: offset, count: UInt64(bytes.count)) {
      (isPlain) throws(StoreError) in
      try unsafe store.write(bytes, at: offset, durable: durable && isPlain)
    }
    if durable, !isPlain { try flush() }
  }

  func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    let isPlain = try change(at: offset, count: count) { (isPlain) throws(StoreError) in
      try store.zero(at: offset, count: count, isPlain ? options : options.subtracting(.durable))
    }
    if options.contains(.durable), !isPlain { try flush() }
  }

  /// What is not here is made zeros: what the image happens to hold there is nobody's.
  func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    let touched = geometry.touched(at: offset, count: count)
    if state.read({ !$0.isCancelled && $0.map.isHere(touched) }) {
      try noteWritten()
      return try store.trim(at: offset, count: count)
    }
    // The rest of the first and the last block need not be fetched for a hint.
    let range = geometry.bytes(of: geometry.covered(at: offset, count: count))
    guard !range.isEmpty else { return }
    try zero(at: range.lowerBound, count: range.upperBound - range.lowerBound, [])
  }

  /// Carries a change out, and remembers that its blocks are here. Returns, and tells `body`, whether they were here before,
  /// and stable: then nothing has to be remembered.
  private func change(
    at offset: UInt64, count: UInt64, _ body: (Bool) throws(StoreError) -> Void
  ) throws(StoreError) -> Bool {
    try noteWritten()
    let touched = geometry.touched(at: offset, count: count)
    if state.read({ $0.map.isStable(touched) }) {
      try body(true)
      return true
    }
    for edge in edges(of: touched, at: offset, count) {
      if let problem = try bring(edge) { throw problem }
    }
    guard let ticket = try claim(geometry.covered(at: offset, count: count)) else {
      try body(false)
      return false
    }
    do throws(StoreError) {
      try body(false)
    } catch {
      state.update { $0.map.drop(ticket) }
      throw error
    }
    state.update { $0.settle(ticket) }
    return false
  }

  /// Blocks of which a change leaves a part as it is.
  private func edges(
    of touched: Range<Int>, at offset: UInt64, _ count: UInt64
  ) -> [Range<Int>] {
    let covered = geometry.covered(at: offset, count: count)
    guard !covered.isEmpty else { return [touched] }
    return [touched.lowerBound..<covered.lowerBound, covered.upperBound..<touched.upperBound]
      .filter { !$0.isEmpty }
  }

  /// nil: the blocks are here already.
  private func claim(_ blocks: Range<Int>) throws(StoreError) -> PullTicket? {
    guard let ticket = state.update({ $0.map.admit(blocks) }) else { return nil }
    while true {
      let admission = state.wait { state -> Result<PullTicket, StoreError>? in
        // The pull may just have ended because what was waited for was the last of it.
        guard state.isPulling || !state.isCancelled && state.map.isHere(ticket.blocks) else {
          state.map.drop(ticket)
          return .failure(state.isCancelled ? PullState.cancelled : PullState.ending)
        }
        return state.map.mustWait(ticket) ? nil : .success(ticket)
      }
      if let admission { return try admission.get() }
    }
  }

  // MARK: Status

  func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    var (extents, place): ([NBDExtent], UInt64) = ([], offset)
    let end = offset + count
    while place < end, extents.count < extentsMax {
      let blocks = geometry.touched(at: place, count: end - place)
      let run = state.read { $0.map.extent(of: blocks) }
      let stop = min(geometry.bytes(of: run.blocks).upperBound, end)
      // What the source has there is not asked for a hint.
      var found = [NBDExtent(length: stop - place, flags: 0)]
      if run.isHere {
        found = try store.status(
          at: place, count: stop - place, extentsMax: extentsMax - extents.count)
      }
      for extent in found {
        NBDExtent.append(extent, to: &extents)
        place += extent.length
      }
    }
    return extents
  }
}
