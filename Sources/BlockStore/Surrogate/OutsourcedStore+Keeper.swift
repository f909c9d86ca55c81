import Base
import DiskStrategy
import HostIO

/// The thread that copies popular reads into the log, keeps it clean, and gives back what is only there.
extension OutsourcedStore {
  /// How long it sleeps when there is nothing to do, and after a failure, in microseconds.
  private static let idleUs: UInt64 = 5000
  private static let retryUs: UInt64 = 500_000
  /// With fewer free segments the log is cleaned.
  private static let freeMin = 3
  /// Bytes that go back between two flushes of the original.
  private static let returnBytesMax = 16 << 20

  private enum Work: Sendable {
    case over
    case nothing
    case retreat(ServerSilence)
    case promote(ForwardedRun, SurrogateLink)
    case flush
    case clean(SurrogateIndex.Cleaning, SurrogateLink)
    case giveBack(SurrogateLink)
  }

  func keep() {
    var place = 0
    while true {
      switch nextWork() {
      case .over: return
      case .nothing: MonotonicClock.sleep(us: Self.idleUs)
      case .retreat(let silence):
        state.update { $0.retreat("\(silence)") }
        note("\(name): \(silence); what is in it goes back to the disk")
      case .promote(let run, let link): copy(run, link)
      case .flush:
        // Otherwise it would be tried again and again without a rest.
        do throws(StoreError) { try flushLog() } catch { MonotonicClock.sleep(us: Self.retryUs) }
      case .clean(let cleaning, let link):
        let isDone = cleaning.runs.allSatisfy { rewrite($0, of: cleaning.segment, link) }
        if !isDone { MonotonicClock.sleep(us: Self.retryUs) }
      case .giveBack(let link):
        do throws(StoreError) {
          let before = state.read { $0.returnedBytes }
          guard try !giveBack(from: &place, link) else { return end() }
          // All that is left is lost.
          if state.read({ $0.returnedBytes == before && $0.hasLost }) {
            MonotonicClock.sleep(us: Self.retryUs)
          }
        } catch {
          let isNew = state.update { state in
            defer { state.problem = "what it has can't be given back: \(error)" }
            return state.problem?.hasSuffix("\(error)") != true
          }
          if isNew { note("\(name): the surrogate's data can't be given back yet: \(error)") }
          MonotonicClock.sleep(us: Self.retryUs)
        }
      }
    }
  }

  private func nextWork() -> Work {
    state.update { state -> Work in
      guard !state.isSuspended, let link = state.link else { return .over }
      switch state.mode {
      case .idle: return .over
      case .passing: return .nothing
      case .returning: return .giveBack(link)
      case .open:
        if let silence = link.silence { return .retreat(silence) }
        if !state.promotions.isEmpty {
          let run = state.promotions.removeFirst()
          state.promotionBytes -= run.byteCount
          return .promote(run, link)
        }
        guard state.index.freeCount < Self.freeMin else { return .nothing }
        if state.index.staleCount > 0 { return .flush }
        guard state.index.freeCount > 0, let cleaning = state.index.clean() else { return .nothing }
        return .clean(cleaning, link)
      }
    }
  }

  /// Appends a copy of what the guest read, if the log still has nothing of it.
  private func copy(_ run: ForwardedRun, _ link: SurrogateLink) {
    let id = hold(run.blocks)
    defer { release(id) }
    let isWanted = state.read { state in
      state.index.isAbsent(run.blocks) && !run.blocks.contains { state.pinned[$0] }
        && state.index.freeCount >= Self.freeMin
    }
    guard isWanted else { return }
    let header = SurrogateRecord.headerByteCount
    let units = SurrogateRecord.unitCount(.copy, run.blocks)
    let buffer = PageBuffer.zeroed(byteCount: units * SurrogateLink.unitByteCount)
    buffer.store(run.data.span(run.byteCount), at: header)
    _ = append(.copy, run.blocks, buffer, link)
  }

  /// Writes what a segment still has of a run once more, behind everything else; false: it can't be done now.
  private func rewrite(_ run: Range<Int>, of segment: Int, _ link: SurrogateLink) -> Bool {
    guard let geometry else { return true }
    let id = hold(run)
    defer { release(id) }
    for part in state.read({ $0.index.rewrites(of: run, in: segment) }) {
      let header = SurrogateRecord.headerByteCount
      let kind: SurrogateRecord.Kind = part.isZeros ? .zeros : .data
      let units = SurrogateRecord.unitCount(kind, part.blocks)
      let buffer = PageBuffer.zeroed(byteCount: units * SurrogateLink.unitByteCount)
      if !part.isZeros {
        let bytes = geometry.bytes(of: part.blocks)
        do throws(StoreError) {
          // SAFETY: the buffer is this call's own; a record's data are padded with zeros to whole units.
          let room = unsafe buffer.part(header, Int(bytes.upperBound - bytes.lowerBound))
          _ = try unsafe gather(
            geometry, part.blocks, bytes.lowerBound, into: room, withCopies: false, isHeld: true)
        } catch { return false }
      }
      guard append(kind, part.blocks, buffer, link, forCleaning: true) else { return false }
    }
    return true
  }

  // MARK: Giving back

  /// Writes some of what is only in the log to the original, durably; true: nothing is left there.
  private func giveBack(
    from place: inout Int, _ link: SurrogateLink
  ) throws(StoreError) -> Bool {
    guard let geometry else { return true }
    // Before blocks are held, which guests' writes may wait for.
    if nextRun(from: 0) != nil { try link.reach() }
    var done: [SurrogateIndex.Piece] = []
    var bytes = 0
    while bytes < Self.returnBytesMax, let run = nextRun(from: place) {
      let pieces = try giveBack(run, geometry, link)
      done += pieces
      bytes += run.count * DiskGeometry.blockByteCount
      place = run.upperBound
    }
    if !done.isEmpty { try original.flush() }
    if nextRun(from: place) == nil { place = 0 }
    let returned = done
    return state.update { state in
      for piece in returned
      where state.index.pieces(of: piece.blocks, withCopies: false) == [piece] {
        state.drop(piece.blocks)
        state.returnedBytes += UInt64(piece.blocks.count * DiskGeometry.blockByteCount)
      }
      return state.index.outsourced.population == 0 && state.pendingCount == 0
    }
  }

  /// The next blocks that only the log has, within one chunk.
  private func nextRun(from place: Int) -> Range<Int>? {
    state.read { state in
      guard !state.isSuspended, let first = state.index.outsourced.first(atOrAfter: place) else {
        return nil
      }
      let end = (first | (DiskGeometry.chunkBlockCount - 1)) + 1
      return state.index.outsourced.run(from: first, limit: end - first)
    }
  }

  /// Writes a run to the original; what of it was where. What the surrogate has lost is left out: it is an
  /// error for whoever reads it, and older content must not take its place.
  private func giveBack(
    _ run: Range<Int>, _ geometry: DiskGeometry, _ link: SurrogateLink
  ) throws(StoreError) -> [SurrogateIndex.Piece] {
    let id = hold(run)
    defer { release(id) }
    var done: [SurrogateIndex.Piece] = []
    for piece in state.read({ $0.index.pieces(of: run, withCopies: false) }) {
      if try giveBack(piece, geometry, link) {
        done.append(piece)
        continue
      }
      for block in piece.blocks {
        for one in state.read({ $0.index.pieces(of: block..<(block + 1), withCopies: false) }) {
          if try giveBack(one, geometry, link) {
            done.append(one)
          } else if one.place != .original {
            _ = lost(one.blocks, geometry)
          }
        }
      }
    }
    return done
  }

  /// false: the log hasn't got it, or no longer all of it.
  private func giveBack(
    _ piece: SurrogateIndex.Piece, _ geometry: DiskGeometry, _ link: SurrogateLink
  ) throws(StoreError) -> Bool {
    let range = geometry.bytes(of: piece.blocks)
    let count = range.upperBound - range.lowerBound
    switch piece.place {
    case .original: return false
    case .zeros: try original.zero(at: range.lowerBound, count: count, [])
    case .log(let unit, _):
      let byteCount = piece.blocks.count * SurrogateLink.unitByteCount
      let buffer = PageBuffer(byteCount: byteCount)
      let sums = state.read { $0.index.sums(of: piece.blocks) }
      // A guest's write may wait for this read.
      let missing = try readChecked(
        piece.blocks, at: unit, sums, into: buffer, link, patienceMs: 1000)
      guard missing.isEmpty else { return false }
      // SAFETY: the buffer is this call's own.
      try unsafe original.write(
        UnsafeRawBufferPointer(buffer.part(0, Int(count))), at: range.lowerBound, durable: false)
    }
    return true
  }
}
