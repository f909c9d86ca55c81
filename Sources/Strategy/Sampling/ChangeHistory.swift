/// What looks at sampled pages found: in which intervals between looks each page changed. Pure.
///
/// A look is a mark per page: a fingerprint of its content, 0 for a page of zeros. A page that was written
/// with what it held already has not changed; QEMU would send it again, so rates are lower bounds there.
public struct ChangeHistory: Sendable {
  /// Most intervals: one bit of a word each.
  public static let intervalsMax = 64

  /// When each look began, in milliseconds on one clock.
  public private(set) var atMs: [UInt64] = []
  public let sample: PageSample
  private var marks: [UInt64] = []
  /// By page; bit i: changed between looks i and i + 1.
  private var changes: [UInt64] = []

  public init(_ sample: PageSample) { self.sample = sample }

  /// Of which it is known what changed: one less than the looks, at most `intervalsMax`.
  public var intervals: Int { max(atMs.count - 1, 0) }
  public var sampledPages: UInt64 { UInt64(sample.pages.count) }

  /// Takes a look; `marks` are in the order of the sample's pages. Looks after the last interval that
  /// there is room for, and looks of another number of pages, are left out.
  public mutating func look(_ marks: [UInt64], atMs: UInt64) {
    guard marks.count == sample.pages.count, intervals < Self.intervalsMax else { return }
    if self.atMs.isEmpty {
      changes = Array(repeating: 0, count: marks.count)
    } else {
      let bit: UInt64 = 1 << UInt64(intervals)
      for page in marks.indices where marks[page] != self.marks[page] { changes[page] |= bit }
    }
    self.marks = marks
    self.atMs.append(atMs)
  }

  /// Pages that were zero at the last look.
  public var zeroPages: PageEstimate { estimate(marks.count { $0 == 0 }) }

  /// Where zeros lay at the last look; nil before there was one.
  public var contents: ContentProfile? { ContentProfile(sample, isZero: marks.map { $0 == 0 }) }

  /// Distinct pages changed within windows of 1, 2, 4, … intervals, each the mean over as many windows as
  /// there are side by side.
  public var curve: DirtyCurve {
    var points: [DirtyCurve.Point] = []
    var width = 1
    while width <= intervals {
      let windows = intervals / width
      let sum = (0..<windows).reduce(0) { $0 + changed(in: $1 * width, count: width) }
      let lengthMs = (atMs[windows * width] - atMs[0]) / UInt64(windows)
      points.append(
        DirtyCurve.Point(windowMs: max(lengthMs, 1), estimate((sum + windows / 2) / windows)))
      width *= 2
    }
    return DirtyCurve(points)
  }

  /// Distinct pages changed in each of `count` windows side by side, in their order, all of as many intervals; empty where
  /// there are fewer intervals than that. Unlike the curve's they are no means: whether the guest writes alike all the
  /// time shows in them.
  public func windows(_ count: Int) -> [DirtyCurve.Point] {
    guard count > 0, intervals >= count else { return [] }
    let width = intervals / count
    return (0..<count).map { number in
      let lengthMs = atMs[(number + 1) * width] - atMs[number * width]
      return DirtyCurve.Point(
        windowMs: max(lengthMs, 1), estimate(changed(in: number * width, count: width)))
    }
  }

  /// Pages of the sample that changed so far, rising, as evenly as can be where they are more than `limit`.
  public func changedPages(limit: Int) -> [UInt64] {
    let changed = changes.indices.filter { changes[$0] != 0 }
    guard limit > 0, !changed.isEmpty else { return [] }
    let step = (changed.count + limit - 1) / limit
    return stride(from: 0, to: changed.count, by: step).map { sample.pages[changed[$0]] }
  }

  /// The most distinct pages that may have been dirtied in a longer time than was looked at: those found
  /// in all of it, and in its second half for the first time, again and again.
  ///
  /// Writes to pages that are each hit at some constant rate, or one after the other, never add new pages
  /// faster than before. Nil before two intervals.
  public var bound: DirtyBound? {
    guard intervals >= 2 else { return nil }
    let half = intervals / 2
    let all = estimate(changed(in: 0, count: intervals)).highPages
    let first = bits(0, half)
    let later = bits(half, intervals - half)
    let new = changes.count { $0 & first == 0 && $0 & later != 0 }
    return DirtyBound(
      lengthMs: atMs[intervals] - atMs[0], pages: all, newPages: estimate(new).highPages,
      newMs: max(atMs[intervals] - atMs[half], 1))
  }

  private func changed(in first: Int, count: Int) -> Int {
    let mask = bits(first, count)
    return changes.count { $0 & mask != 0 }
  }

  private func bits(_ first: Int, _ count: Int) -> UInt64 {
    (count >= 64 ? UInt64.max : (1 << UInt64(count)) - 1) << UInt64(first)
  }

  private func estimate(_ found: Int) -> PageEstimate {
    PageEstimate(found: UInt64(found), of: sampledPages, ramPages: sample.ramPages)
  }
}
