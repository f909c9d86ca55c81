public import Base

/// Which blocks the copier takes next. Pure.
///
/// It goes through the disk from its start to its end, again and again (a round each time). With
/// `follows` it goes on behind the guest's last request instead, in the guest's direction and within
/// the same region, as long as the guest is busy: there the disk's head is.
public struct CopyOrder: Sendable {
  /// How far behind the guest it looks, in blocks: 64 MiB.
  static let regionBlockCount = 16_384
  /// The guest counts as busy for this long after a request, in microseconds.
  static let busyUs: UInt64 = 50_000

  /// Runs behind the guest one after the other; then one of the round is due. A guest that never rests would keep
  /// rounds from ending otherwise.
  static let followedInARowMax = 3

  private var position = 0
  /// Times it has come to the end of the disk.
  public private(set) var roundCount: UInt64 = 0
  private var guestEnd: Int?
  private var isBackward = false
  private var guestUs: UInt64 = 0
  /// Runs that were taken behind the guest.
  public private(set) var followedCount: UInt64 = 0
  private var followedInARow = 0

  public init() {}

  /// The guest reads or writes these blocks.
  public mutating func noteGuest(_ blocks: Range<Int>, nowUs: UInt64) {
    if let before = guestEnd, nowUs - min(guestUs, nowUs) < Self.busyUs {
      // Only what is near tells a direction; a jump keeps the one before.
      let isNear = abs(blocks.lowerBound - before) < Self.regionBlockCount
      if isNear { isBackward = blocks.upperBound <= before }
    } else {
      isBackward = false
    }
    guestEnd = isBackward ? blocks.lowerBound : blocks.upperBound
    guestUs = nowUs
  }

  /// The next run, or nil: nothing can be taken now.
  ///
  /// - Parameters:
  ///   - deferred: blocks that are left for a later round; nil: none.
  ///   - longest: blocks of a run, at most.
  public mutating func next(
    _ map: some BlockRuns, follows: Bool, nowUs: UInt64, deferred: PageBitmap? = nil,
    longest: Int = DiskGeometry.chunkBlockCount
  ) -> Range<Int>? {
    if follows, followedInARow < Self.followedInARowMax,
      let run = behindGuest(map, nowUs, longest)
    {
      (followedCount, followedInARow) = (followedCount + 1, followedInARow + 1)
      return run
    }
    followedInARow = 0
    if let run = map.nextRun(from: position, without: deferred)?.prefix(longest) {
      position = run.upperBound
      return run
    }
    // The end: the next round begins.
    if position > 0 {
      position = 0
      roundCount += 1
    }
    guard let run = map.nextRun(from: 0, without: deferred)?.prefix(longest) else {
      // A round in which everything was left for the next one is one, too.
      if deferred != nil, roundCount == 0 { roundCount = 1 }
      return nil
    }
    position = run.upperBound
    return run
  }

  private func behindGuest(
    _ map: some BlockRuns, _ nowUs: UInt64, _ longest: Int
  ) -> Range<Int>? {
    guard let guestEnd, nowUs - min(guestUs, nowUs) < Self.busyUs else { return nil }
    let run = isBackward ? map.previousRun(before: guestEnd) : map.nextRun(from: guestEnd)
    guard let run else { return nil }
    let distance = isBackward ? guestEnd - run.upperBound : run.lowerBound - guestEnd
    guard distance < Self.regionBlockCount else { return nil }
    return isBackward ? run.suffix(longest) : run.prefix(longest)
  }
}
