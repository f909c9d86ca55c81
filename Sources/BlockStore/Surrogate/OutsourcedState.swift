import Base
public import DiskStrategy
import HostIO

/// What is asked of a surrogate.
public struct SurrogateWish: Sendable {
  public var place: SurrogatePlace
  /// Bytes of it that may be used; nil: all.
  public var byteCountMax: UInt64?
  public var popularity = PopularityFilter.Terms()

  public init(_ place: SurrogatePlace) { self.place = place }
}

/// Everything that an outsourced disk knows; behind the lock of `OutsourcedStore`.
struct OutsourcedState: Sendable {
  enum Mode: Sendable {
    /// There is no surrogate.
    case idle
    /// There will be one: writes go to the original, and wait for those that they overlap.
    case passing
    case open
    /// Nothing new goes to the surrogate.
    case returning
  }
  /// A write, or a change of where something lies, that is under way or waits for its turn.
  struct Hold: Sendable {
    let id: UInt64
    let blocks: Range<Int>
  }

  /// Reads that may wait to be copied, in bytes.
  static let promotionBytesMax = 4 << 20

  var mode = Mode.idle
  var link: SurrogateLink?
  var file: MapFile?
  var index = SurrogateIndex(blockCount: 0, segmentCount: 0)
  var filter: PopularityFilter
  var holds: [Hold] = []
  var nextHold: UInt64 = 1
  /// Blocks that went to the original though the surrogate was in use, or about to be. They stay there: of a newer record
  /// that a power failure takes, an older one would be found.
  var pinned = PageBitmap(count: 0)
  /// Records that are being written.
  var pendingCount = 0
  /// Records with the guest's data that were written, and how many of them a flush covered.
  var appendedCount: UInt64 = 0
  var flushedCount: UInt64 = 0
  /// The connection over which the first of those that no flush covered was written.
  var unflushedGeneration: UInt64?
  /// A connection broke before what had been written over it was flushed.
  var hasLost = false
  /// The file has changes that are perhaps not on stable storage.
  var isUnsynced = false
  var promotions: [ForwardedRun] = []
  var promotionBytes = 0
  /// Ends the thread that cleans and gives back.
  var isSuspended = false
  var keeperCount = 0

  var reads: UInt64 = 0
  var writes: UInt64 = 0
  var refusedWrites: UInt64 = 0
  var returnedBytes: UInt64 = 0
  var problem: String?

  init() { filter = PopularityFilter(PopularityFilter.Terms()) }

  /// Puts a hold in line.
  mutating func enqueue(_ blocks: Range<Int>) -> UInt64 {
    defer { nextHold += 1 }
    holds.append(Hold(id: nextHold, blocks: blocks))
    return nextHold
  }

  /// Whether none that came before has some of its blocks: a large one isn't overtaken by small ones for ever.
  func isGranted(_ id: UInt64) -> Bool {
    guard let place = holds.firstIndex(where: { $0.id == id }) else { return false }
    let blocks = holds[place].blocks
    return !holds[..<place].contains { $0.blocks.overlaps(blocks) }
  }

  mutating func release(_ id: UInt64) { holds.removeAll { $0.id == id } }

  /// The blocks are the original's from now on.
  mutating func pin(_ blocks: Range<Int>) { for block in blocks { _ = pinned.insert(block) } }

  /// The file says from now on whether the newest content of these blocks is only in the log.
  mutating func save(_ blocks: Range<Int>) {
    guard let file, !blocks.isEmpty else { return }
    for chunk in (blocks.lowerBound >> 6)...((blocks.upperBound - 1) >> 6) {
      let word = index.outsourced.word(chunk)
      guard file[chunk] != word else { continue }
      file[chunk] = word
      isUnsynced = true
    }
  }

  mutating func drop(_ blocks: Range<Int>) {
    index.drop(blocks)
    save(blocks)
  }

  /// The original has what a copy has: forgets copies of these blocks; false: there are none.
  mutating func dropCopies(_ blocks: Range<Int>) -> Bool {
    let copies = blocks.filter { index.kept[$0] }
    for block in copies { index.drop(block..<(block + 1)) }
    return !copies.isEmpty
  }

  /// What is in the surrogate isn't what was written there. Flushes fail from now on, too: what else is lost nobody knows.
  mutating func noteLost() {
    hasLost = true
    retreat("the surrogate has lost writes")
  }

  /// Nothing new goes to the surrogate any more.
  mutating func retreat(_ problem: String?) {
    guard mode == .open || mode == .passing else { return }
    mode = .returning
    self.problem = self.problem ?? problem
    (promotions, promotionBytes) = ([], 0)
  }

  var status: SurrogateStatus? {
    guard mode != .idle, let link else { return nil }
    let phase: SurrogateStatus.Phase =
      switch mode {
      case .idle, .passing: .opening
      case .open: .inUse
      case .returning: .returning
      }
    return SurrogateStatus(
      place: link.place.name, phase: phase,
      onlyHereBytes: UInt64(index.outsourced.population * DiskGeometry.blockByteCount),
      copiedBytes: UInt64(index.kept.population * DiskGeometry.blockByteCount),
      reads: reads, writes: writes, refusedWrites: refusedWrites, returnedBytes: returnedBytes,
      problem: problem)
  }
}
