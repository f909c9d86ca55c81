public import Base

/// Which blocks the copier takes next. Pure.
///
/// It goes through the disk from its start to its end, again and again (a round each time). With
/// `follows` it goes on behind the guest's last request instead, in the guest's direction and within
/// the same region, as long as the guest is busy: there the disk's head is.
///
/// What lies ahead of a guest that goes steadily in one direction it will read itself, and that is sent from memory. Where
/// nothing that the copier reads stays in memory for it (`sparesAhead`), to be there first would have the disk read twice:
/// the copier goes elsewhere as long as there is anything.
public struct CopyOrder: Sendable {
  /// How far behind the guest it looks, in blocks: 64 MiB.
  static let regionBlockCount = 16_384
  /// The guest counts as busy for this long after a request, in microseconds.
  static let busyUs: UInt64 = 50_000

  /// Runs behind the guest one after the other; then one of the round is due. A guest that never rests would keep
  /// rounds from ending otherwise.
  static let followedInARowMax = 3

  /// Requests of a guest in one direction after which it goes on in it.
  static let steadyMin = 16

  private var position = 0
  /// Times it has come to the end of the disk.
  public private(set) var roundCount: UInt64 = 0
  private var guestEnd: Int?
  private var isBackward = false
  /// Where the guest's last requests were on average, in 1/32 blocks: several clients that go side by side ask in any order.
  private var guestMean = 0
  private var steadyCount = 0
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
    noteDirection(blocks.lowerBound)
    guestEnd = isBackward ? blocks.lowerBound : blocks.upperBound
    guestUs = nowUs
  }

  /// Something else has been gone through once from its beginning to its end, and counts as a round.
  public mutating func noteRound() { roundCount += 1 }

  /// Takes only the first blocks of a run that it has just given: it goes on behind them.
  public mutating func cut(_ run: Range<Int>, to count: Int) -> Range<Int> {
    let part = run.prefix(max(count, 1))
    position = part.upperBound
    return part
  }

  private mutating func noteDirection(_ block: Int) {
    let before = guestMean >> 5
    guard guestEnd != nil, abs(block - before) < Self.regionBlockCount else {
      (guestMean, steadyCount) = (block << 5, 0)
      return
    }
    guestMean += block - before
    // Positive upwards: a turn begins again from nothing.
    let isUp = block >= before
    steadyCount = isUp == (steadyCount >= 0) ? steadyCount + (isUp ? 1 : -1) : (isUp ? 1 : -1)
    steadyCount = max(min(steadyCount, Self.steadyMin), -Self.steadyMin)
  }

  /// Whether the guest has asked for anything a short time ago.
  public func isGuestBusy(nowUs: UInt64) -> Bool {
    guestEnd != nil && nowUs - min(guestUs, nowUs) < Self.busyUs
  }

  /// Where a guest will come by itself; nil: it goes nowhere in particular.
  private func guestsWay(_ nowUs: UInt64) -> Range<Int>? {
    guard let guestEnd, isGuestBusy(nowUs: nowUs) else { return nil }
    if steadyCount >= Self.steadyMin { return guestEnd..<(guestEnd + Self.regionBlockCount) }
    guard steadyCount <= -Self.steadyMin else { return nil }
    return max(guestEnd - Self.regionBlockCount, 0)..<guestEnd
  }

  /// The next run, or nil: nothing can be taken now.
  ///
  /// - Parameters:
  ///   - sparesAhead: a guest that is followed reads what lies ahead of it in any case.
  ///   - deferred: blocks that are left for a later round; nil: none.
  ///   - longest: blocks of a run, at most.
  public mutating func next(
    _ map: some BlockRuns, follows: Bool, nowUs: UInt64, sparesAhead: Bool = false,
    deferred: PageBitmap? = nil, longest: Int = DiskGeometry.chunkBlockCount
  ) -> Range<Int>? {
    if follows, sparesAhead, let way = guestsWay(nowUs) {
      if let run = run(map, outside: way, deferred)?.prefix(longest) {
        (position, followedInARow) = (run.upperBound, 0)
        return run
      }
    } else if follows, followedInARow < Self.followedInARowMax,
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

  /// The next run that the guest won't come to; from the disk's start where there is none up to its end, and that is no
  /// round, for something was left out.
  private func run(
    _ map: some BlockRuns, outside way: Range<Int>, _ deferred: PageBitmap?
  ) -> Range<Int>? {
    for start in [position, 0] {
      guard let run = map.nextRun(from: start, without: deferred) else { continue }
      guard way.contains(run.lowerBound) else { return run }
      if let run = map.nextRun(from: way.upperBound, without: deferred) { return run }
    }
    return nil
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
