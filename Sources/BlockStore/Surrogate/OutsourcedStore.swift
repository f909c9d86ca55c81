import Base
import DiskStrategy
import HostIO
import NBD
import Synchronization

/// A disk that keeps what the guest writes, and what it reads often, in a surrogate for a while: so what copies
/// the disk meanwhile has it to itself. Without a surrogate it is what is underneath.
///
/// Where the newest content of a block is says one bit of a mapped file (beside the map of moves), and, for those
/// that are in the surrogate, the newest record of its log. The order of things makes that hold at any instant:
/// a record first, then the bit, then the answer to the guest; and the way back: the original, durably, then the
/// bit. A server that is killed leaves both; the next one gives back what is only in the log. It never
/// goes on with a log: so in a log only a block's first way back counts.
final class OutsourcedStore: DiskStore {
  let original: any DiskStore
  let name: String
  let state = Guarded(OutsourcedState())
  let note: @Sendable (String) -> Void
  /// Whether calls have to look where things are.
  let isActive = Atomic(false)
  /// One flush of the log and the file at a time: who comes second has to know that the first is done.
  let flushing = Mutex(())
  /// nil: a disk that can't be moved has no surrogate either.
  let geometry: DiskGeometry?

  init(
    _ original: any DiskStore, name: String, log note: @escaping @Sendable (String) -> Void
  ) {
    (self.original, self.name, self.note) = (original, name, note)
    geometry = DiskGeometry(byteCount: original.byteCount)
  }

  var byteCount: UInt64 { original.byteCount }
  var traits: DiskTraits { original.traits }
  var surrogateStatus: SurrogateStatus? {
    isActive.load(ordering: .relaxed) ? state.read { $0.status } : nil
  }
  /// Whether the original alone isn't the disk, or soon won't be.
  var isInUse: Bool { isActive.load(ordering: .sequentiallyConsistent) }

  private var activeGeometry: DiskGeometry? {
    isActive.load(ordering: .sequentiallyConsistent) ? geometry : nil
  }

  /// Whether the log alone has the newest content of some of these blocks.
  func isOutsourced(_ blocks: Range<Int>) -> Bool {
    isInUse && state.read { $0.index.isOutsourced(blocks) }
  }

  // MARK: Reading

  func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    guard let geometry = activeGeometry else {
      return try unsafe original.read(at: offset, into: target)
    }
    let blocks = geometry.touched(at: offset, count: UInt64(target.count))
    let popular = touch(blocks)
    let wasHere = try unsafe gather(geometry, blocks, offset, into: target, withCopies: true)
    if wasHere {
      state.update { $0.reads += 1 }
    } else if let popular {
      unsafe promote(popular, geometry, offset, UnsafeRawBufferPointer(target))
    }
  }

  /// What the copier reads: nothing of it says what the guest likes.
  func fetch(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    guard let geometry = activeGeometry else {
      return try unsafe original.read(at: offset, into: target)
    }
    let blocks = geometry.touched(at: offset, count: UInt64(target.count))
    _ = try unsafe gather(geometry, blocks, offset, into: target, withCopies: false)
  }

  func readAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool? {
    guard let geometry = activeGeometry else {
      return unsafe original.readAtOnce(at: offset, into: target)
    }
    let blocks = geometry.touched(at: offset, count: UInt64(target.count))
    // What has to be read in the log is another thread's work, which counts it, too.
    guard state.read({ $0.index.isAbsent(blocks) }) else { return false }
    let isDone = unsafe original.readAtOnce(at: offset, into: target)
    guard isDone == true else { return isDone }
    if let popular = touch(blocks) {
      unsafe promote(popular, geometry, offset, UnsafeRawBufferPointer(target))
    }
    return true
  }

  func fetchAtOnce(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) -> Bool? {
    if let geometry = activeGeometry {
      let blocks = geometry.touched(at: offset, count: UInt64(target.count))
      guard state.read({ !$0.index.isOutsourced(blocks) }) else { return false }
    }
    return unsafe original.readAtOnce(at: offset, into: target)
  }

  // MARK: Popular reads

  /// Requests of more blocks than this are passing by.
  private static let popularBlocksMax = 32  // 128 KiB

  /// Notes a read of the guest's; blocks that are popular by it, from the first to the last.
  private func touch(_ blocks: Range<Int>) -> Range<Int>? {
    guard blocks.count <= Self.popularBlocksMax else { return nil }
    let nowMs = MonotonicClock.nowMs
    return state.update { state -> Range<Int>? in
      guard state.mode == .open else { return nil }
      var popular: Range<Int>?
      for block in blocks where state.filter.touch(block, nowMs: nowMs) {
        popular = (popular?.lowerBound ?? block)..<(block + 1)
      }
      guard let popular, state.index.isAbsent(popular),
        state.index.kept.population < state.filter.terms.capacity,
        state.promotionBytes < OutsourcedState.promotionBytesMax
      else { return nil }
      return popular
    }
  }

  /// A copy of what was just read goes to the log, by another thread.
  private func promote(
    _ blocks: Range<Int>, _ geometry: DiskGeometry, _ offset: UInt64,
    _ bytes: UnsafeRawBufferPointer
  ) {
    let covered = geometry.covered(at: offset, count: UInt64(bytes.count)).clamped(to: blocks)
    guard !covered.isEmpty else { return }
    let range = geometry.bytes(of: covered)
    let data = PageBuffer(byteCount: Int(range.upperBound - range.lowerBound))
    let start = Int(range.lowerBound - offset)
    // SAFETY: the run is within what was read; the slice is bounds-checked.
    unsafe data.part(0, data.byteCount).copyMemory(
      from: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + data.byteCount)]))
    state.update { state in
      guard state.mode == .open else { return }
      state.promotions.append(ForwardedRun(blocks: covered, data: data))
      state.promotionBytes += data.byteCount
    }
  }

  // MARK: The rest

  func cache(at offset: UInt64, count: UInt64) { original.cache(at: offset, count: count) }
  func forget(at offset: UInt64, count: UInt64) { original.forget(at: offset, count: count) }
  func mayWait(at offset: UInt64, count: UInt64, writes: Bool) -> Bool {
    original.mayWait(at: offset, count: count, writes: writes)
  }

  var isAtRest: Bool { !isInUse && original.isAtRest }

  func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    // Where the original has a hole the log may have data.
    if isInUse { return [NBDExtent(length: count, flags: 0)] }
    return try original.status(at: offset, count: count, extentsMax: extentsMax)
  }

  var contexts: [String] { original.contexts }

  func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    guard context != NBDExtent.allocation else {
      return try status(at: offset, count: count, extentsMax: extentsMax)
    }
    // What went to the log the original's bitmaps know nothing of.
    guard !isInUse else { throw StoreError(.invalid, "not while the disk has a surrogate") }
    return try original.status(of: context, at: offset, count: count, extentsMax: extentsMax)
  }
}
