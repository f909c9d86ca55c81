import DiskStrategy
import HostIO

/// The threads that send.
extension DiskMove {
  private enum Work: Sendable {
    case over
    case nothing
    case copy(Range<Int>, MoveLink)
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
      case .copy(let blocks, let link): copy(blocks, buffer, link)
      case .forward(let run, let link):
        // SAFETY: the run's buffer is this thread's since it left the queue.
        let part = unsafe UnsafeRawBufferPointer(run.data.part(0, run.byteCount))
        unsafe send(run.blocks, part, link, isForwarded: true)
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
      let mayRead =
        state.isFrozen || !state.decision.yieldsToGuest || state.readPace.mayGo(nowUs: nowUs)
      guard mayRead, state.pace.mayGo(nowUs: nowUs) else { return .nothing }
      if !state.queue.isEmpty {
        let run = state.queue.removeFirst()
        state.queuedBytes -= run.byteCount
        return .forward(run, link)
      }
      let follows = state.decision.followsGuest
      if !state.decision.defersWritten { state.deferred = nil }
      guard
        let blocks = state.order.next(
          state.map, follows: follows, nowUs: nowUs, deferred: state.deferred)
      else { return .nothing }
      state.map.begin(blocks)
      state.copiedBytes += state.byteCount(blocks)
      state.readPace.spend(state.byteCount(blocks))
      return .copy(blocks, link)
    }
  }

  private func copy(_ blocks: Range<Int>, _ buffer: PageBuffer, _ link: MoveLink) {
    let range = geometry.bytes(of: blocks)
    let count = range.upperBound - range.lowerBound
    // SAFETY: a run has no more blocks than a chunk, which the buffer holds.
    let part = unsafe buffer.part(0, Int(count))
    let supply = state.read { $0.supply }
    for missing in unsafe supply?.fill(blocks, geometry, into: part) ?? [blocks] {
      let range = geometry.bytes(of: missing)
      let start = Int(range.lowerBound) - blocks.lowerBound * DiskGeometry.blockByteCount
      do throws(StoreError) {
        try unsafe read(range, into: buffer.part(start, Int(range.upperBound - range.lowerBound)))
      } catch {
        state.update { $0.end(blocks, arrived: false, over: link) }
        return stop("can't read the disk at \(range.lowerBound): \(error)")
      }
    }
    unsafe send(blocks, UnsafeRawBufferPointer(part), link, isForwarded: false)
  }

  private func read(
    _ range: Range<UInt64>, into part: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    if unsafe source.fetchAtOnce(at: range.lowerBound, into: part) == true { return }
    try unsafe source.fetch(at: range.lowerBound, into: part)
    // Nobody had it in memory, so nobody misses it there.
    source.forget(at: range.lowerBound, count: UInt64(part.count))
    state.update { $0.readBytes += UInt64(part.count) }
  }

  private func send(
    _ blocks: Range<Int>, _ bytes: UnsafeRawBufferPointer, _ link: MoveLink, isForwarded: Bool
  ) {
    let offset = geometry.bytes(of: blocks).lowerBound
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

  /// What to do about a failure over there: a connection is made anew, anything else a person's matter.
  func judge(_ problem: StoreError, _ link: MoveLink) {
    if link.isBroken { return }
    stop("the destination: \(problem)")
  }
}
