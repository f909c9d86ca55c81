public import Base

/// What lies where in a surrogate's log, and where the next record goes. Pure.
///
/// The log is cut into segments of 4 MiB. Records are appended to one of them until it is full, then to a free
/// one; nothing is ever written over as long as it is the newest. A segment in which nothing is newest any more
/// is *stale*, and free once the surrogate has been flushed: what took its place must not get lost
/// where the older content is gone.
///
/// Units are blocks of 4096 bytes behind the log's own header. Invariants: a block has one place at most, the
/// one with the highest sequence; it is in `outsourced` or in `kept` exactly when it has one.
///
/// Room: the guest's records never take the last free segment, nor what cleaning has opened of it. So
/// what is chosen for cleaning, half a segment at most, always has room, and each cleaning leaves more room than
/// there was.
public struct SurrogateIndex: Sendable {
  /// Units of a segment.
  public static let segmentUnitCount = 1024
  /// Segments that a log has at least: one to write to, one in reserve for cleaning, one for what stays.
  public static let segmentsMin = 3

  struct Place: Sendable, Hashable {
    let sequence: UInt64
    /// The record's header.
    let home: UInt64
    /// Of the block's data; says nothing for zeros.
    let sum: UInt64
    /// The block's number within the record; nil: it is zeros.
    let index: UInt16?

    /// Where the block's data are; nil: it is zeros.
    var unit: UInt64? { index.map { home + 1 + UInt64($0) } }
  }
  struct Segment: Sendable {
    /// Blocks whose place is here, and records that are being written.
    var live = 0
    var pending = 0
    /// Blocks here whose data the original hasn't.
    var outsourced = 0
    var records: [SurrogateRecord] = []
    /// Cleaning wasn't worth it with so many blocks; nil: nobody knows.
    var liveInVain: Int?
  }

  /// Blocks whose newest content is in the log alone.
  public private(set) var outsourced: PageBitmap
  /// Blocks of which the log has a copy.
  public private(set) var kept: PageBitmap
  private var places: [Int: Place] = [:]
  var segments: [Segment]
  private var free: [Int]
  private var stale: [Int] = []
  private var flushing: [Int] = []
  /// Where data were that were written again as they are, until a flush has covered that: by then nothing
  /// else has taken their place.
  private var before: [Int: UInt64] = [:]
  private var flushingBefore: [Int: UInt64] = [:]
  private var current: Int?
  private var usedUnits = 0
  private var nextSequence: UInt64 = 1
  /// Segments that were ever written to.
  public private(set) var segmentsUsed = 0

  /// An empty log. That there are at least `segmentsMin` segments is the caller's to see to.
  public init(blockCount: Int, segmentCount: Int) {
    outsourced = PageBitmap(count: blockCount)
    kept = outsourced
    segments = Array(repeating: Segment(), count: max(segmentCount, 0))
    // The last one is taken first.
    free = Array((0..<segments.count).reversed())
  }

  /// Segments that fit into a surrogate of so many bytes.
  public static func segmentCount(byteCount: UInt64) -> Int {
    let unit = UInt64(DiskGeometry.blockByteCount)
    return Int(clamping: (byteCount / unit).subtractingCapped(1) / UInt64(segmentUnitCount))
  }

  // MARK: Appending

  /// Room for a record that is about to be written; `commit` or `abandon` has to follow.
  public struct Reservation: Sendable, Hashable {
    public let sequence: UInt64
    /// The header's unit; the data's are behind it.
    public let unit: UInt64
  }

  /// nil: the log is full.
  ///
  /// - Parameter forCleaning: may take the last free segment, and append while there is none.
  public mutating func reserve(_ unitCount: Int, forCleaning: Bool = false) -> Reservation? {
    precondition(unitCount >= 1 && unitCount <= Self.segmentUnitCount)
    if current == nil || usedUnits + unitCount > Self.segmentUnitCount {
      guard free.count > (forCleaning ? 0 : 1), let next = free.popLast() else { return nil }
      let full = current
      (current, usedUnits) = (next, 0)
      (segments[next].records, segments[next].liveInVain) = ([], nil)
      segmentsUsed = max(segmentsUsed, next + 1)
      if let full { retire(full) }
    }
    // Otherwise the guest would fill what cleaning needs as fast as it is cleaned.
    guard let current, forCleaning || !free.isEmpty else { return nil }
    let unit = UInt64(current * Self.segmentUnitCount + usedUnits)
    usedUnits += unitCount
    segments[current].pending += 1
    defer { nextSequence += 1 }
    return Reservation(sequence: nextSequence, unit: unit)
  }

  /// The record is in the log: from now on its blocks are read there.
  ///
  /// - Parameter sums: of each block's data; none for zeros.
  public mutating func commit(
    _ record: SurrogateRecord, at reservation: Reservation, sums: [UInt64]
  ) {
    put(record, at: reservation.unit, sums)
    end(reservation)
  }

  /// The record couldn't be written.
  public mutating func abandon(_ reservation: Reservation) { end(reservation) }

  private mutating func end(_ reservation: Reservation) {
    let segment = Int(reservation.unit) / Self.segmentUnitCount
    segments[segment].pending -= 1
    retire(segment)
  }

  /// Takes a record that was found in a log. Of those of a block the newest one counts, in whatever order.
  public mutating func restore(_ record: SurrogateRecord, at unit: UInt64, sums: [UInt64]) {
    nextSequence = max(nextSequence, record.sequence &+ 1)
    put(record, at: unit, sums)
  }

  private mutating func put(_ record: SurrogateRecord, at unit: UInt64, _ sums: [UInt64]) {
    precondition(sums.count == (record.kind == .zeros ? 0 : record.blocks.count))
    let segment = Int(unit) / Self.segmentUnitCount
    segments[segment].records.append(record)
    for (index, block) in record.blocks.enumerated() {
      let isZeros = record.kind == .zeros
      let new = Place(
        sequence: record.sequence, home: unit, sum: isZeros ? 0 : sums[index],
        index: isZeros ? nil : UInt16(index))  // a record with data has fewer blocks than a segment
      if let old = places[block] {
        guard old.sequence < record.sequence else { continue }
        leave(block, old)
        keep(block, old, new)
      }
      places[block] = new
      segments[segment].live += 1
      if record.kind == .copy {
        _ = kept.insert(block)
      } else {
        _ = outsourced.insert(block)
        if record.kind == .data { segments[segment].outsourced += 1 }
      }
    }
  }

  /// Remembers where the same data are that a failure of the surrogate's power can't take any more.
  private mutating func keep(_ block: Int, _ old: Place, _ new: Place) {
    guard let unit = old.unit, new.unit != nil, old.sum == new.sum else { return forget(block) }
    // Of several the first one is the most likely to be on stable storage.
    if before[block] == nil { before[block] = unit }
  }

  private mutating func forget(_ block: Int) {
    before[block] = nil
    flushingBefore[block] = nil
  }

  /// Where the block's data are, too, if what is at its place is lost; nil: nowhere that is known.
  public func unitBefore(_ block: Int) -> UInt64? { flushingBefore[block] ?? before[block] }

  /// The blocks are no longer in the log: the original has them.
  public mutating func drop(_ blocks: Range<Int>) {
    for block in blocks {
      if let old = places.removeValue(forKey: block) { leave(block, old) }
      forget(block)
    }
  }

  private mutating func leave(_ block: Int, _ place: Place) {
    let segment = Int(place.home) / Self.segmentUnitCount
    segments[segment].live -= 1
    if outsourced.remove(block), place.unit != nil { segments[segment].outsourced -= 1 }
    _ = kept.remove(block)
    retire(segment)
  }

  /// A segment that nothing needs any more can be used again after the next flush.
  private mutating func retire(_ segment: Int) {
    let isEmpty = segments[segment].live == 0 && segments[segment].pending == 0
    guard isEmpty, segment != current, !segments[segment].records.isEmpty else { return }
    segments[segment].records = []
    stale.append(segment)
  }

  func known(_ block: Int) -> Place? { places[block] }
  /// Whether nothing is appended to the segment.
  func isClosed(_ segment: Int) -> Bool { segment != current }

  // MARK: Space

  /// Segments that only wait for a flush.
  public var staleCount: Int { stale.count }
  /// Segments that nothing is in, the one in reserve for cleaning among them.
  public var freeCount: Int { free.count }
  /// Whether segments become free with the flush that is under way.
  public var isFlushing: Bool { !flushing.isEmpty }

  /// The surrogate is flushed.
  public mutating func beginFlush() {
    flushing += stale
    stale = []
    flushingBefore.merge(before) { first, _ in first }
    before = [:]
  }

  /// Ends what `beginFlush` began: stale segments are free now, or, where the flush failed, wait
  /// for the next one.
  public mutating func endFlush(_ isDone: Bool) {
    if isDone {
      free = flushing.reversed() + free
    } else {
      stale += flushing
      before.merge(flushingBefore) { _, first in first }
    }
    (flushing, flushingBefore) = ([], [:])
  }
}

extension UInt64 {
  func subtractingCapped(_ other: UInt64) -> UInt64 { self > other ? self - other : 0 }
}
