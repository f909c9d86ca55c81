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
    case promote(ForwardedRun, SurrogateLink)
    case flush
    case clean([Range<Int>], SurrogateLink)
    case giveBack(SurrogateLink)
  }

  func keep() {
    var place = 0
    while true {
      switch nextWork() {
      case .over: return
      case .nothing: MonotonicClock.sleep(us: Self.idleUs)
      case .promote(let run, let link): copy(run, link)
      case .flush: try? flushLog()
      case .clean(let runs, let link): for run in runs { rewrite(run, link) }
      case .giveBack(let link):
        do throws(StoreError) {
          guard try !giveBack(from: &place, link) else { return end() }
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
        if !state.promotions.isEmpty {
          let run = state.promotions.removeFirst()
          state.promotionBytes -= run.byteCount
          return .promote(run, link)
        }
        guard state.index.freeCount < Self.freeMin else { return .nothing }
        if state.index.staleCount > 0 { return .flush }
        if let runs = state.index.clean() { return .clean(runs, link) }
        return .nothing
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

  /// Writes what is in the log once more, behind everything else.
  private func rewrite(_ run: Range<Int>, _ link: SurrogateLink) {
    let id = hold(run)
    defer { release(id) }
    for piece in state.read({ $0.index.pieces(of: run, withCopies: false) }) {
      switch piece.place {
      case .original: continue
      case .zeros:
        let header = PageBuffer.zeroed(byteCount: SurrogateRecord.headerByteCount)
        guard append(.zeros, piece.blocks, header, link, forCleaning: true) else { return }
      case .log(let unit, _):
        let header = SurrogateRecord.headerByteCount
        let count = piece.blocks.count * SurrogateLink.unitByteCount
        let buffer = PageBuffer.zeroed(byteCount: header + count)
        // SAFETY: the buffer is this call's own; a record's data are padded to whole units.
        guard (try? unsafe link.read(at: unit, 0, into: buffer.part(header, count))) != nil,
          append(.data, piece.blocks, buffer, link, forCleaning: true)
        else { return }
      }
    }
  }

  // MARK: Giving back

  /// Writes some of what is only in the log to the original, durably; true: nothing is left there.
  private func giveBack(
    from place: inout Int, _ link: SurrogateLink
  ) throws(StoreError) -> Bool {
    guard let geometry else { return true }
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

  /// Writes a run to the original; what of it was where.
  private func giveBack(
    _ run: Range<Int>, _ geometry: DiskGeometry, _ link: SurrogateLink
  ) throws(StoreError) -> [SurrogateIndex.Piece] {
    let id = hold(run)
    defer { release(id) }
    let pieces = state.read { $0.index.pieces(of: run, withCopies: false) }
      .filter { $0.place != .original }
    for piece in pieces {
      let range = geometry.bytes(of: piece.blocks)
      let count = range.upperBound - range.lowerBound
      switch piece.place {
      case .original: continue
      case .zeros: try original.zero(at: range.lowerBound, count: count, [])
      case .log(let unit, _):
        let buffer = PageBuffer(byteCount: Int(count))
        // SAFETY: the buffer is this call's own.
        let part = unsafe buffer.part(0, Int(count))
        // A guest's write may wait for this one.
        try unsafe link.read(at: unit, 0, into: part, patienceMs: 1000)
        try unsafe original.write(
          UnsafeRawBufferPointer(part), at: range.lowerBound, durable: false)
      }
    }
    return pieces
  }
}
