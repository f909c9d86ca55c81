public import Base

/// What of a disk is here, while the rest of it is still at its source: one state per block. Pure.
///
/// ```
///              ┌──────── write of the whole block (nothing is fetched) ────────┐
///              │                                                               ▼
/// MISSING ──take──▶ fetching ──arrive──▶ storing ──settle──▶ FRESH ──flush──▶ STABLE
///    ▲                 │ lost, or written meanwhile │ could not be stored
///    └─────────────────┴────────────────────────────┘
/// ```
///
/// What is under way is an activity with a ticket. Activities on blocks that are missing don't overlap, but for
/// writes: one that comes over a fetch wins, because what the fetch brings of its blocks is not stored; one that
/// comes over a store waits for its end, which is near, and nothing new begins on its blocks meanwhile. So an older
/// content never overtakes a newer one, and a long write waits for what was being stored when it came, and no more.
///
/// `FRESH` is what survives the death of a server, `STABLE` what survives that of the host: only what a
/// flush has covered.
///
/// Invariants: a block is missing, fresh, flushing or stable; one that is stored, or written without being here,
/// is missing.
public struct PullMap: Sendable {
  /// What is done to blocks.
  enum Kind: Sendable { case fetch, store, write }

  /// Something that is under way.
  struct Activity: Sendable {
    let ticket: PullTicket
    let kind: Kind
    /// Of a fetch: what was written since it began.
    var lost: [Range<Int>] = []
  }

  public let geometry: DiskGeometry
  /// Blocks whose content is not here.
  public private(set) var missing: PageBitmap
  /// Here, and not covered by a flush.
  private var fresh: PageBitmap
  private var flushing: PageBitmap
  /// Of those that are missing, what the source says is zeros.
  private var zeros: PageBitmap
  private(set) var activities: [Activity] = []
  private var nextID: UInt64 = 1

  /// Nothing is here.
  public init(_ geometry: DiskGeometry) {
    self.geometry = geometry
    missing = PageBitmap(count: geometry.blockCount, filled: true)
    fresh = PageBitmap(count: geometry.blockCount)
    (flushing, zeros) = (fresh, fresh)
  }

  /// Bytes of the blocks that are missing.
  public var missingByteCount: UInt64 {
    min(UInt64(missing.population) << DiskGeometry.blockShift, geometry.byteCount)
  }

  /// Whether blocks are here that no flush has covered.
  public var hasFresh: Bool { fresh.population > 0 }

  /// Whether nothing is under way.
  public var isIdle: Bool { activities.isEmpty }

  /// Whether all these blocks are here.
  public func isHere(_ blocks: Range<Int>) -> Bool { !missing.hasAny(of: blocks) }

  /// Whether all these blocks are here also after a crash of the host.
  public func isStable(_ blocks: Range<Int>) -> Bool {
    isHere(blocks) && !fresh.hasAny(of: blocks) && !flushing.hasAny(of: blocks)
  }

  /// Blocks of a chunk that are here and that no flush has covered, the lowest in the lowest bit.
  public func unflushedWord(_ chunk: Int) -> UInt64 { fresh.word(chunk) | flushing.word(chunk) }

  // MARK: What a file remembers of it

  /// Blocks of a chunk that are here.
  public func hereWord(_ chunk: Int) -> UInt64 { ~missing.word(chunk) & mask(chunk) }

  /// Blocks of a chunk that are here and covered by the last flush, also one whose end was not told yet.
  public func stableWord(_ chunk: Int) -> UInt64 { hereWord(chunk) & ~fresh.word(chunk) }

  /// Takes over what an earlier map said of a chunk.
  ///
  /// - Parameter stable: those of `here` that are on stable storage.
  public mutating func restore(_ chunk: Int, here: UInt64, stable: UInt64) {
    var bits = here & mask(chunk)
    while bits != 0 {
      let block = chunk << 6 + bits.trailingZeroBitCount
      bits &= bits - 1
      _ = missing.remove(block)
      if stable >> UInt64(block & 63) & 1 == 0 { _ = fresh.insert(block) }
    }
  }

  private func mask(_ chunk: Int) -> UInt64 {
    let rest = geometry.blockCount - chunk << 6
    return rest >= 64 ? .max : (1 << UInt64(max(rest, 0))) - 1
  }

  // MARK: From the source

  /// The source says that these blocks are zeros.
  public mutating func noteZeros(_ blocks: Range<Int>) {
    for block in blocks where missing[block] { _ = zeros.insert(block) }
  }

  /// Begins to fetch a run; it comes in pieces, each of which is zeros by the source's word, or has to be read.
  ///
  /// - Precondition: the blocks are missing, and nobody has taken one.
  public mutating func take(_ run: Range<Int>) -> [PullTicket] {
    var (tickets, first): ([PullTicket], Int) = ([], run.lowerBound)
    while first < run.upperBound {
      let isZero = zeros[first]
      let end = (first..<run.upperBound).first { zeros[$0] != isZero } ?? run.upperBound
      tickets.append(begin(isZero ? .store : .fetch, first..<end))
      first = end
    }
    return tickets
  }

  /// Begins to make a long run zeros that begins in a chunk and goes on behind it; nil: the source doesn't say
  /// that the block is zeros, or somebody has it.
  public mutating func takeZeros(from block: Int, atMost count: Int) -> PullTicket? {
    let last = min(block + count, geometry.blockCount)
    var end = block
    while end < last, missing[end], zeros[end], taken(end >> 6) >> UInt64(end & 63) & 1 == 0 {
      end += 1
    }
    return end > block ? begin(.store, block..<end) : nil
  }

  /// What a fetch asked for is there: what of it may be stored now.
  public mutating func arrive(_ ticket: PullTicket) -> [PullTicket] {
    guard let fetch = end(ticket, .fetch) else { return [] }
    var (tickets, first): ([PullTicket], Int) = ([], ticket.blocks.lowerBound)
    for lost in fetch.lost.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if first < lost.lowerBound { tickets.append(begin(.store, first..<lost.lowerBound)) }
      first = max(first, lost.upperBound)
    }
    if first < ticket.blocks.upperBound {
      tickets.append(begin(.store, first..<ticket.blocks.upperBound))
    }
    return tickets
  }

  // MARK: Writes

  /// The guest writes whole blocks: not before `mustWait` is over. Its end has to be told: `settle`, or `drop` when it
  /// failed. Nil: everything is here already, and nothing has to be told.
  public mutating func admit(_ blocks: Range<Int>) -> PullTicket? {
    guard !blocks.isEmpty, !isHere(blocks) else { return nil }
    for index in activities.indices where activities[index].kind == .fetch {
      let lost = activities[index].ticket.blocks.clamped(to: blocks)
      if !lost.isEmpty { activities[index].lost.append(lost) }
    }
    return begin(.write, blocks)
  }

  /// Whether data that were fetched are being stored just where a write that was admitted is to go.
  public func mustWait(_ write: PullTicket) -> Bool {
    activities.contains { $0.kind == .store && $0.ticket.blocks.overlaps(write.blocks) }
  }

  // MARK: Ends

  /// What a store or a write put there is in the image.
  public mutating func settle(_ ticket: PullTicket) {
    guard let done = end(ticket, nil), done.kind != .fetch else { return }
    var place = missing.first(atOrAfter: ticket.blocks.lowerBound)
    while let block = place, block < ticket.blocks.upperBound {
      _ = missing.remove(block)
      _ = zeros.remove(block)
      _ = fresh.insert(block)
      place = missing.first(atOrAfter: block + 1)
    }
  }

  /// Something has failed; its blocks are as they were.
  public mutating func drop(_ ticket: PullTicket) { _ = end(ticket, nil) }

  /// A flush of the image begins; false: there is nothing that it would make stable. One at a time.
  public mutating func beginFlush() -> Bool {
    guard fresh.population > 0, flushing.population == 0 else { return false }
    swap(&fresh, &flushing)
    return true
  }

  /// Chunks that have blocks which the flush under way covers.
  public var flushingChunks: [Int] {
    var chunks: [Int] = []
    var chunk = flushing.firstWord(atOrAfter: 0)
    while let next = chunk {
      chunks.append(next)
      chunk = flushing.firstWord(atOrAfter: next + 1)
    }
    return chunks
  }

  /// The flush has ended; what it failed to make stable is left for the next one.
  public mutating func endFlush(_ isDone: Bool) {
    if !isDone {
      var place = flushing.first(atOrAfter: 0)
      while let block = place {
        _ = fresh.insert(block)
        place = flushing.first(atOrAfter: block + 1)
      }
    }
    flushing.removeAll()
  }

  // MARK: Activities

  private mutating func begin(_ kind: Kind, _ blocks: Range<Int>) -> PullTicket {
    let ticket = PullTicket(id: nextID, blocks: blocks, isStore: kind == .store)
    nextID += 1
    activities.append(Activity(ticket: ticket, kind: kind))
    return ticket
  }

  /// - Parameter kind: what it has to be; nil: anything.
  private mutating func end(_ ticket: PullTicket, _ kind: Kind?) -> Activity? {
    guard let place = activities.firstIndex(where: { $0.ticket.id == ticket.id }),
      kind == nil || activities[place].kind == kind
    else { return nil }
    return activities.remove(at: place)
  }
}

/// Something that is under way in a `PullMap`.
public struct PullTicket: Sendable, Hashable {
  let id: UInt64
  public let blocks: Range<Int>
  /// Nothing has to be read for it: what is stored is known.
  public let isStore: Bool
}

extension PageBitmap {
  fileprivate func hasAny(of pages: Range<Int>) -> Bool {
    guard !pages.isEmpty, let first = first(atOrAfter: pages.lowerBound) else { return false }
    return first < pages.upperBound
  }
}
