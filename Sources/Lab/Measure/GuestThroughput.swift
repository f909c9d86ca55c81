public import Base

/// How much work a guest got done before, during and after its move, from the counter in its
/// heartbeats. A unit of work is a page written or checked.
public struct GuestThroughput: Codable, Sendable, Equatable {
  /// Of `timeline`: as often as the guest says how far it is.
  static let bucketMs = GuestSpecification.Workload.heartbeatMs
  /// What it was before results said so.
  private static let earlierBucketMs: UInt64 = 50
  /// The guest is back once it did so much of its former work, in percent, over `windowMs`.
  static let recoveredPercent: UInt64 = 90
  static let windowMs: UInt64 = 500
  static let stepMs: UInt64 = 10
  static let aftermathMs: UInt64 = 2000
  /// Buckets kept: 20 minutes.
  static let bucketCountMax: UInt64 = 120_000

  /// Units per second before the migration.
  public var baselinePerSecond: UInt64
  /// Share of its former work that the guest did not do between the migration's start and its own
  /// stop at the source (without a move: the migration's end), in percent; below 0 it did more.
  public var slowdownPercent: Int
  /// From the first beat at the destination to the first `windowMs` with 90 % of the former work. Nil:
  /// it did not move, or did not come to it while it was watched.
  @OrNull public var recoveryMs: UInt64?
  /// All work that was not done from the start to `windowMs` after the guest was back, downtime
  /// included, as time at full speed; nil where `recoveryMs` is.
  @OrNull public var lostMs: UInt64?
  /// From the migration's start until the guest was last heard at the source, and first at the destination; nil: it did
  /// not move, or results are of an earlier version.
  @OrNull public var stoppedAtMs: UInt64?
  @OrNull public var resumedAtMs: UInt64?
  @OrNull private var timelineBucketMs: UInt64?
  /// Length of a bucket of `timeline`, in milliseconds.
  public var bucketMs: UInt64 { timelineBucketMs.map { max($0, 1) } ?? Self.earlierBucketMs }
  /// Units per bucket of `bucketMs`, from the migration's start until `aftermathMs` after its end.
  public var timeline: [UInt64]

  /// The moments that a look at a migration needs, on the host's clock in microseconds.
  struct Window {
    /// The guest was at work, and not yet being moved.
    var calmFromUs: UInt64
    var startUs, endUs: UInt64
    /// Until here the guest was watched.
    var untilUs: UInt64
  }

  /// Nil where the guest did nothing before its move, or was hardly heard.
  init?(_ log: borrowing HeartbeatLog, _ window: Window, moved: Bool) {
    let curve = WorkCurve(log.entries.map { ($0.atUs, $0.beat.work) })
    guard let before = curve.rate(fromUs: window.calmFromUs, toUs: window.startUs), before > 0
    else { return nil }
    baselinePerSecond = before
    let lastAtSource = log.entries.last { $0.side == .source }?.atUs
    let first = log.entries.first {
      $0.side == .destination && $0.atUs > (lastAtSource ?? 0)
    }?.atUs
    let stopUs = moved ? lastAtSource ?? window.endUs : window.endUs
    let during = curve.rate(fromUs: window.startUs, toUs: max(stopUs, window.startUs + 1))
    slowdownPercent = 100 - Int(clamping: Ratio.scale(during ?? before, 100, over: before))
    timelineBucketMs = Self.bucketMs
    timeline = curve.buckets(
      fromUs: window.startUs, toUs: min(window.untilUs, window.endUs + Self.aftermathMs * 1000),
      widthUs: Self.bucketMs * 1000,
      countMax: Self.bucketCountMax)
    guard moved, let first, first > window.startUs else { return }
    if let lastAtSource, lastAtSource >= window.startUs {
      stoppedAtMs = (lastAtSource - window.startUs) / 1000
      resumedAtMs = (first - window.startUs) / 1000
    }
    guard let backUs = Self.recovered(curve, from: first, until: window.untilUs, before) else {
      return
    }
    recoveryMs = (backUs - first) / 1000
    let endUs = backUs + Self.windowMs * 1000
    let due = Ratio.scale(before, endUs - window.startUs, over: 1_000_000)
    let done = curve.work(atUs: endUs) - curve.work(atUs: window.startUs)
    lostMs = due > done ? Ratio.scale(due - done, 1000, over: before) : 0
  }

  private static func recovered(
    _ curve: WorkCurve, from first: UInt64, until: UInt64, _ before: UInt64
  ) -> UInt64? {
    let widthUs = windowMs * 1000
    let wanted = Ratio.scale(before, recoveredPercent * windowMs, over: 100_000)
    for start in stride(from: first, through: until, by: Int(stepMs) * 1000) {
      guard start + widthUs <= min(until, curve.lastUs) else { return nil }
      if curve.work(atUs: start + widthUs) - curve.work(atUs: start) >= wanted { return start }
    }
    return nil
  }
}
