import Base
public import Strategy

/// `halving`: pre-copy that goes on as long as each round halves what a stop would have to send. Pure.
///
/// Rounds as in `precopy`: one begins when everything that was owed is sent, and is judged when the dirty log has
/// just been read. The guest is stopped
/// - when the forecast pause keeps the limit that was asked for, or
/// - when a round left more than half of what the one before had left. A series that halves comes to nothing after
///   a few rounds; one that does not costs the network more than the shorter pause is worth.
///
/// A round that is longer than the scan over all of memory was is the last one in any case: from there on the guest
/// writes faster than the link carries.
public struct Halving: MigrationStrategy {
  /// How much of the round before may be left, in thousandths.
  static let leftPermille: UInt64 = 500

  public let name: StrategyName
  private let facts: EngineFacts
  private let downtimeLimitMs: UInt64
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  /// How long the scan took; nil while it goes on.
  private var scanMs: UInt64?
  /// When the round that goes on began.
  private var roundBeganMs: UInt64?
  /// Pages that a stop would have had to send at the end of the last round; nil before the first.
  private var leftBefore: UInt64?

  public init(_ name: StrategyName, _ constraints: MigrationConstraints, _ facts: EngineFacts) {
    (self.name, self.facts) = (name, facts)
    downtimeLimitMs = constraints.downtimeLimitMs
  }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    let isRoundEnd = watch.ended(sample) != nil
    // The scan: every page once. While the dirty log is read its counts are of no use.
    guard sample.freshPages == 0, !sample.isCollecting else { return [] }
    if scanMs == nil { scanMs = sample.elapsedMs }
    if isRoundEnd, let reason = judge(sample) { return [.stop(reason)] }
    // Everything owed is sent: what has the guest written meanwhile?
    guard sample.owedPages == 0, pacer.take(sample, after: EpochPacer.leastMs) else { return [] }
    return [.collect]
  }

  /// Whether the guest is to be stopped at the end of this round, and why.
  private mutating func judge(_ sample: EngineSample) -> StopReason? {
    let forecast = StopForecast(sample, facts)
    if forecast.fits(downtimeLimitMs) { return .fits }
    let roundMs = roundBeganMs.map { sample.nowMs - min($0, sample.nowMs) } ?? 0
    let before = leftBefore
    (leftBefore, roundBeganMs) = (forecast.pages, sample.nowMs)
    if let scanMs, roundMs > max(scanMs, EpochPacer.leastMs) { return .noGain }
    guard let before else { return nil }
    return forecast.pages > before.scaled(by: Self.leftPermille, over: 1000) ? .noGain : nil
  }
}
