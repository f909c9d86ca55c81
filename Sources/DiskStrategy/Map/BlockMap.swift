public import Base

/// What of a disk the destination has: one state per block. Pure.
///
/// ```
///            guest writes                          guest writes
///   ┌──────────────────────────────┐      ┌─────────────────────────┐
///   ▼                              │      ▼                         │
/// NEEDED ──begin──▶ SENDING ──arrived──▶ ARRIVED ──flush──▶ SYNCED ─┘
///   ▲                  │ written meanwhile, or lost
///   └──────────────────┘
/// ```
///
/// A block has one send under way at most, so nothing can overtake it; a send's generation is whether
/// the block was written since it began. What has arrived counts as the destination's only once it is on
/// stable storage there: when the connection breaks before, it is needed again.
///
/// Invariants: a block that is sending is needed; one that is stale is sending; none is both needed and
/// arrived.
public struct BlockMap: Sendable {
  public let geometry: DiskGeometry
  /// Blocks whose newest content the destination lacks, or may lack.
  public private(set) var needed: PageBitmap
  private var sending: PageBitmap
  private var stale: PageBitmap
  private var arrived: PageBitmap
  private var flushing: PageBitmap
  private var isFlushing = false

  /// - Parameter filled: every block is needed; otherwise none is.
  public init(_ geometry: DiskGeometry, filled: Bool = true) {
    self.geometry = geometry
    let count = geometry.blockCount
    needed = PageBitmap(count: count, filled: filled)
    sending = PageBitmap(count: count)
    (stale, arrived, flushing) = (sending, sending, sending)
  }

  /// Blocks that are on their way.
  public var sendingCount: Int { sending.population }
  /// Blocks that have arrived and may not be on stable storage.
  public var unflushedCount: Int { arrived.population + flushing.population }
  /// Whether the destination has everything.
  public var isSynced: Bool { needed.population == 0 && unflushedCount == 0 }

  /// Bytes of the blocks that are needed.
  public var neededByteCount: UInt64 {
    min(
      UInt64(needed.population) << DiskGeometry.blockShift, geometry.byteCount)
  }

  /// A chunk's blocks that the destination may not have on stable storage, the lowest in the lowest
  /// bit: what has to be remembered beyond a crash.
  public func openWord(_ chunk: Int) -> UInt64 {
    needed.word(chunk) | arrived.word(chunk) | flushing.word(chunk)
  }

  /// Whether all these blocks are remembered already.
  public func isOpen(_ blocks: Range<Int>) -> Bool {
    blocks.allSatisfy { needed[$0] || arrived[$0] || flushing[$0] }
  }

  /// The source's content changes, or may just have changed. Called before a write begins, and, unless
  /// the destination gets the write itself, after it has ended: what was read meanwhile may be
  /// half old.
  public mutating func note(_ blocks: Range<Int>) {
    for block in blocks {
      _ = needed.insert(block)
      _ = arrived.remove(block)
      if sending[block] { _ = stale.insert(block) }
    }
  }

  /// Whether the block is on its way.
  public func isSending(_ block: Int) -> Bool { sending[block] }

  /// Whether none of the blocks is on its way.
  public func isFree(_ blocks: Range<Int>) -> Bool { !blocks.contains { sending[$0] } }

  /// The blocks' content, as it is from now on, goes to the destination.
  ///
  /// - Precondition: `isFree(blocks)`.
  public mutating func begin(_ blocks: Range<Int>) {
    for block in blocks {
      precondition(!sending[block], "two sends of one block")
      _ = needed.insert(block)
      _ = arrived.remove(block)
      _ = sending.insert(block)
    }
  }

  /// A send has ended.
  public mutating func end(_ blocks: Range<Int>, arrived hasArrived: Bool) {
    for block in blocks {
      _ = sending.remove(block)
      let isStale = stale.remove(block)
      guard hasArrived, !isStale else { continue }
      _ = needed.remove(block)
      _ = arrived.insert(block)
    }
  }

  /// The destination is told to flush; false: nothing new is there, or it flushes already.
  public mutating func beginFlush() -> Bool {
    guard !isFlushing, arrived.population > 0 else { return false }
    isFlushing = true
    swap(&arrived, &flushing)
    return true
  }

  /// The flush has ended. Calls `changed` for chunks whose `openWord` may have changed.
  public mutating func endFlush(_ isDone: Bool, _ changed: (Int) -> Void) {
    guard isFlushing else { return }
    isFlushing = false
    var chunks: [Int] = []
    var chunk = flushing.firstWord(atOrAfter: 0)
    while let next = chunk {
      chunks.append(next)
      chunk = flushing.firstWord(atOrAfter: next + 1)
    }
    if !isDone { for chunk in chunks { need(chunk, flushing.word(chunk)) } }
    flushing.removeAll()
    chunks.forEach(changed)
  }

  /// The connection broke: who is at its other end may have forgotten what it hadn't flushed. Sends
  /// under way end by themselves.
  public mutating func loseUnflushed() {
    var chunk = arrived.firstWord(atOrAfter: 0)
    while let next = chunk {
      need(next, arrived.word(next))
      chunk = arrived.firstWord(atOrAfter: next + 1)
    }
    arrived.removeAll()
  }

  /// The destination has nothing.
  public mutating func needAll() {
    for chunk in 0..<geometry.chunkCount { need(chunk, .max) }
    arrived.removeAll()
  }

  /// Sets blocks of a chunk that are needed, from a map of before.
  public mutating func need(_ chunk: Int, _ word: UInt64) {
    var bits = word
    while bits != 0 {
      let block = chunk << 6 + bits.trailingZeroBitCount
      bits &= bits - 1
      if block < needed.count { _ = needed.insert(block) }
    }
  }
}

/// Finding what to send next.
extension BlockMap: BlockRuns {
  public var wanted: PageBitmap { needed }

  public func taken(_ chunk: Int) -> UInt64 { sending.word(chunk) }

  /// Those of `blocks` that are needed and not on their way: the first run of them, however long.
  public func freeRun(in blocks: Range<Int>) -> Range<Int>? {
    guard let first = blocks.first(where: { needed[$0] && !sending[$0] }) else { return nil }
    let rest = first..<blocks.upperBound
    let end = rest.first { !needed[$0] || sending[$0] } ?? blocks.upperBound
    return first..<end
  }
}
