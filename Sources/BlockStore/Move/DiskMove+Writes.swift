import Base
import DiskStrategy
import HostIO
import NBD

/// The guest's writes while its disk moves.
extension DiskMove {
  /// How one write is carried out.
  private enum Entry: Sendable {
    case local(UInt64)
    /// `whole`: a block of which only a part is written was not there yet, so that it goes as a whole,
    /// after the write here.
    case mirror(UInt64, MoveLink, whole: Bool)
    case remote
  }

  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    let startUs = guestStart
    defer { guestEnd(startUs) }
    let count = UInt64(bytes.count)
    let blocks = geometry.touched(at: offset, count: count)
    switch enter(offset, count, blocks, mayMirror: true) {
    case .remote:
      try remote { link throws(StoreError) in
        try unsafe unflushed.write(bytes, at: offset, durable: durable, over: link)
      }
    case .local(let id):
      do throws(StoreError) {
        try unsafe source.write(bytes, at: offset, durable: durable)
      } catch {
        leave(id, blocks)
        throw error
      }
      unsafe leave(id, blocks, forwarding: bytes, at: offset)
    case .mirror(let id, let link, let isWhole):
      let (failure, problem) = unsafe mirror(bytes, at: offset, durable, blocks, link, isWhole)
      state.update { state in
        state.writes.removeAll { $0.id == id }
        state.end(blocks, arrived: failure == nil && problem == nil, over: link)
        state.mirroredBytes += problem == nil ? count : 0
        state.wireBytes += problem == nil ? count : 0
        if state.decision.yieldsToGuest {
          state.order.noteGuest(blocks, nowUs: MonotonicClock.nowUs)
        }
      }
      if let problem { judge(problem, link) }
      if let failure { throw failure }
    }
  }

  /// Everything that changes a range without data: carried out here, and remembered.
  func change(
    at offset: UInt64, count: UInt64,
    _ body: (any DiskStore) throws(StoreError) -> Void,
    remotely: (MoveLink) throws(StoreError) -> Void
  ) throws(StoreError) {
    let blocks = geometry.touched(at: offset, count: count)
    switch enter(offset, count, blocks, mayMirror: false) {
    case .remote: try remote(remotely)
    case .local(let id), .mirror(let id, _, _):
      defer { leave(id, blocks) }
      try body(source)
    }
  }

  private func enter(
    _ offset: UInt64, _ count: UInt64, _ blocks: Range<Int>, mayMirror: Bool
  ) -> Entry {
    while true {
      let entry = state.wait { state -> Entry? in
        guard !state.isFrozen,
          let entry = Self.admit(&state, offset, count, blocks, mayMirror: mayMirror)
        else { return nil }
        // Who waits still says so again: this is a change.
        state.heldSinceUs = 0
        return entry
      }
      if let entry { return entry }
    }
  }

  /// nil: the write has to wait.
  private static func admit(
    _ state: inout MoveState, _ offset: UInt64, _ count: UInt64, _ blocks: Range<Int>,
    mayMirror: Bool
  ) -> Entry? {
    switch state.stage {
    case .switched, .over(.switched): return .remote
    case .idle, .moving, .over: break
    }
    let id = state.nextWrite
    if mayMirror, state.decision.writes == .mirror, let link = state.openLink,
      state.base?.noteSent(blocks) ?? true
    {
      guard state.map.isFree(blocks) else {
        if state.heldSinceUs == 0 { state.heldSinceUs = MonotonicClock.nowUs }
        return nil
      }
      let isWhole = needsWhole(state, offset, count, blocks, link)
      state.note(blocks)
      state.map.begin(blocks)
      state.save(blocks)
      state.writes.append(ActiveWrite(id: id, blocks: blocks))
      state.nextWrite += 1
      return .mirror(id, link, whole: isWhole)
    }
    state.note(blocks)
    var write = ActiveWrite(id: id, blocks: blocks)
    for index in state.writes.indices where state.writes[index].blocks.overlaps(blocks) {
      state.writes[index].isContested = true
      write.isContested = true
    }
    state.writes.append(write)
    state.nextWrite += 1
    return .local(id)
  }

  /// Whether the range can't be sent as it is: the destination lacks the rest of its first or last
  /// block, or takes larger blocks only.
  private static func needsWhole(
    _ state: MoveState, _ offset: UInt64, _ count: UInt64, _ blocks: Range<Int>, _ link: MoveLink
  ) -> Bool {
    let least = UInt64(link.store.traits.blockSizes.minimum)
    guard offset.isMultiple(of: least), count.isMultiple(of: least) else { return true }
    let covered = state.geometry.covered(at: offset, count: count)
    guard covered != blocks else { return false }
    guard let first = blocks.first, let last = blocks.last else { return false }
    return [first, last].contains { !covered.contains($0) && state.map.needed[$0] }
  }

  /// Writes to both sides. `failure` is what the guest is told, `problem` what went wrong over there.
  private func mirror(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ durable: Bool, _ blocks: Range<Int>,
    _ link: MoveLink, _ isWhole: Bool
  ) -> (failure: StoreError?, problem: StoreError?) {
    var pending: MoveLink.Pending?
    var problem: StoreError?
    if !isWhole {
      do throws(StoreError) {
        pending = try unsafe link.startWrite(bytes, at: offset, isAwaited: true)
      } catch { problem = error }
    }
    var failure: StoreError?
    do throws(StoreError) {
      try unsafe source.write(bytes, at: offset, durable: durable)
    } catch { failure = error }
    do throws(StoreError) {
      if let pending {
        try link.finish(pending)
      } else if isWhole, failure == nil {
        try sendWhole(blocks, link)
      }
    } catch { problem = error }
    return (failure, problem)
  }

  /// No other write touches the blocks meanwhile: they are on their way.
  private func sendWhole(_ blocks: Range<Int>, _ link: MoveLink) throws(StoreError) {
    let bytes = geometry.bytes(of: blocks)
    let buffer = PageBuffer(byteCount: Int(bytes.upperBound - bytes.lowerBound))
    // SAFETY: the buffer is this call's own.
    let part = unsafe buffer.part(0, buffer.byteCount)
    try unsafe source.fetch(at: bytes.lowerBound, into: part)
    let pending = try unsafe link.startWrite(
      UnsafeRawBufferPointer(part), at: bytes.lowerBound, isAwaited: true)
    try link.finish(pending)
  }

  /// A write here has ended.
  private func leave(_ id: UInt64, _ blocks: Range<Int>) {
    state.update { state in
      state.writes.removeAll { $0.id == id }
      state.map.note(blocks)
    }
  }

  /// The same, and what was written goes on from memory where that costs nothing.
  private func leave(
    _ id: UInt64, _ blocks: Range<Int>, forwarding bytes: UnsafeRawBufferPointer, at offset: UInt64
  ) {
    state.update { state in
      let place = state.writes.firstIndex { $0.id == id }
      let isContested = place.map { state.writes.remove(at: $0).isContested } ?? true
      state.map.note(blocks)
      state.order.noteGuest(blocks, nowUs: MonotonicClock.nowUs)
      guard state.decision.writes == .forward, !isContested, state.openLink != nil else { return }
      let covered = geometry.covered(at: offset, count: UInt64(bytes.count))
      guard covered.count <= ForwardedRun.blocksMax, let run = state.map.freeRun(in: covered),
        state.queuedBytes < MoveState.queueBytesMax
      else { return }
      let range = geometry.bytes(of: run)
      let data = PageBuffer(byteCount: Int(range.upperBound - range.lowerBound))
      let start = Int(range.lowerBound - offset)
      // SAFETY: the run is within what was written; the copy is bounds-checked by both slices.
      unsafe data.part(0, data.byteCount).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + data.byteCount)]))
      state.forward(ForwardedRun(blocks: run, data: data))
    }
  }
}

extension ForwardedRun {
  /// Longest run that is sent from memory, in blocks: 1 MiB.
  static let blocksMax = 256

  var byteCount: Int { data.byteCount }
}

extension MoveState {
  /// Whether the copier may read something now.
  mutating func mayRead(_ nowUs: UInt64) -> Bool {
    if isFrozen { return true }
    if decision.yieldsToGuest, !readPace.mayGo(nowUs: nowUs) { return false }
    if decision.readsTail, !mayReadTail(nowUs) { return false }
    return !decision.followsGuest || copierReads < DiskMoveTerms.followingReadsMax
      || !order.isGuestBusy(nowUs: nowUs)
  }

  /// The next run of the queue; nil: there is none.
  mutating func takeForwarded() -> ForwardedRun? {
    guard !queue.isEmpty else { return nil }
    let run = queue.removeFirst()
    queuedBytes -= run.byteCount
    return run
  }

  mutating func forward(_ run: ForwardedRun) {
    map.begin(run.blocks)
    queue.append(run)
    queuedBytes += run.byteCount
  }
}
