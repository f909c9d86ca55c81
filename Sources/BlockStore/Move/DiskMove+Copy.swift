import DiskStrategy
import HostIO

/// The threads that send.
extension DiskMove {
  private enum Work: Sendable {
    case over
    case nothing
    /// `isNear`: where the guest is.
    case copy(Range<Int>, MoveLink, isNear: Bool)
    case tail(LogPart, MoveLink)
    case forward(ForwardedRun, MoveLink)
  }

  /// How long a thread sleeps when there is nothing to send, in microseconds: longer from time to time.
  private static let idleUs: UInt64 = 1000
  private static let idleUsMax: UInt64 = 16_000

  /// One sender, until the move is over.
  func sendAll() {
    let buffer = PageBuffer(byteCount: DiskGeometry.chunkByteCount)
    var idleUs = Self.idleUs
    while true {
      let work = nextWork()
      if case .nothing = work {
        MonotonicClock.sleep(us: idleUs)
        idleUs = min(idleUs * 2, Self.idleUsMax)
        continue
      }
      idleUs = Self.idleUs
      switch work {
      case .over, .nothing: return
      case .copy(let blocks, let link, let isNear): copy(blocks, buffer, link, isNear)
      case .tail(let part, let link): copy(part, buffer, link)
      case .forward(let run, let link):
        // SAFETY: the run's buffer is this thread's since it left the queue.
        let part = unsafe UnsafeRawBufferPointer(run.data.part(0, run.byteCount))
        unsafe send(run.blocks, part, link, isForwarded: !run.isCopied)
      }
    }
  }

  private func nextWork() -> Work {
    state.update { state in
      guard state.stage.isMoving else {
        state.dropQueue()
        return .over
      }
      guard let link = state.openLink, !link.isBroken else {
        state.dropQueue()
        return .nothing
      }
      let nowUs = MonotonicClock.nowUs
      guard state.pace.mayGo(nowUs: nowUs) else { return .nothing }
      if state.turns.isForForwarded, let run = state.takeForwarded() {
        state.turns.noteForwarded(UInt64(run.byteCount))
        return .forward(run, link)
      }
      if state.mayRead(nowUs), let work = nextRead(&state, link, nowUs) { return work }
      return state.takeForwarded().map { .forward($0, link) } ?? .nothing
    }
  }

  private func nextRead(_ state: inout MoveState, _ link: MoveLink, _ nowUs: UInt64) -> Work? {
    if state.decision.readsTail {
      switch state.nextTail(of: source) {
      case .part(let part): return .tail(part, link)
      case .notYet: return nil
      case .over: break
      }
    }
    let (followed, round) = (state.order.followedCount, state.order.roundCount)
    if !state.decision.defersWritten { state.deferred = nil }
    let next = state.order.next(
      state.map, follows: state.decision.followsGuest, nowUs: nowUs,
      sparesAhead: state.sparesAhead, deferred: state.deferred)
    // The disk has been gone through to its end, and the log has its turn again.
    if next == nil || state.order.roundCount != round { state.tail.begin() }
    guard var blocks = next else { return nil }
    if state.decision.readsTail, source.isOutsourced(blocks) {
      blocks = state.order.cut(blocks, to: DiskMoveTerms.scatteredBlocksMax)
    }
    state.map.begin(blocks)
    state.turns.noteCopied(state.byteCount(blocks))
    state.noteRead(state.byteCount(blocks))
    return .copy(blocks, link, isNear: state.order.followedCount > followed)
  }

  private func copy(
    _ blocks: Range<Int>, _ buffer: PageBuffer, _ link: MoveLink, _ isNear: Bool
  ) {
    var isReading = true
    func endReading() {
      guard isReading else { return }
      isReading = false
      state.update { $0.copierReads -= 1 }
    }
    defer { endReading() }
    let range = geometry.bytes(of: blocks)
    let count = range.upperBound - range.lowerBound
    // SAFETY: a run has no more blocks than a chunk, which the buffer holds.
    let part = unsafe buffer.part(0, Int(count))
    let (supply, base) = state.read { ($0.supply, $0.base) }
    if let base { return copy(blocks, over: base, buffer, link, isNear) }
    for missing in unsafe supply?.fill(blocks, geometry, into: part) ?? [blocks] {
      let range = geometry.bytes(of: missing)
      let start = Int(range.lowerBound) - blocks.lowerBound * DiskGeometry.blockByteCount
      do throws(StoreError) {
        let count = Int(range.upperBound - range.lowerBound)
        try unsafe read(range, into: buffer.part(start, count), keeps: isNear)
      } catch {
        state.update { $0.end(blocks, arrived: false, over: link) }
        return stop("can't read the disk at \(range.lowerBound): \(error)")
      }
    }
    endReading()
    unsafe send(blocks, UnsafeRawBufferPointer(part), link, isForwarded: false)
  }

  func read(
    _ range: Range<UInt64>, into part: UnsafeMutableRawBufferPointer, keeps: Bool
  ) throws(StoreError) {
    if unsafe source.fetchAtOnce(at: range.lowerBound, into: part) == true { return }
    try unsafe source.fetch(at: range.lowerBound, into: part)
    // Nobody had it in memory, so nobody misses it there; but where the guest is, it may be wanted next.
    if !keeps { source.forget(at: range.lowerBound, count: UInt64(part.count)) }
    state.update { $0.readBytes += UInt64(part.count) }
  }

  func send(
    _ blocks: Range<Int>, _ bytes: UnsafeRawBufferPointer, _ link: MoveLink, isForwarded: Bool
  ) {
    let offset = geometry.bytes(of: blocks).lowerBound
    if let base = state.read({ $0.base }), !base.noteSent(blocks) {
      return state.update { $0.end(blocks, arrived: false, over: link) }
    }
    waitForTurn(link)
    defer { state.update { $0.linkSends -= 1 } }
    do throws(StoreError) {
      let wireBytes = try unsafe link.send(bytes, at: offset)
      state.update { state in
        state.end(blocks, arrived: true, over: link)
        state.wireBytes += UInt64(wireBytes)
        if isForwarded { state.forwardedBytes += UInt64(bytes.count) }
        state.pace.spend(UInt64(wireBytes))
      }
    } catch {
      state.update { $0.end(blocks, arrived: false, over: link) }
      judge(error, link)
    }
  }

  /// While the guest's writes go to both sides they must not stand behind many runs of ours.
  private func waitForTurn(_ link: MoveLink) {
    while true {
      let isMine = state.wait { state -> Bool? in
        let isFull = state.linkSends >= DiskMoveTerms.mirroredSendsMax
        if isFull, state.decision.writes == .mirror, state.stage.isMoving, !link.isBroken {
          return nil
        }
        state.linkSends += 1
        return true
      }
      if isMine != nil { return }
    }
  }

  /// What to do about a failure over there: a connection is made anew, anything else a person's matter.
  func judge(_ problem: StoreError, _ link: MoveLink) {
    if link.isBroken { return }
    stop("the destination: \(problem)")
  }
}
