import Base

/// Rival `ramp`: pre-copy whose downtime limit rises in steps, as KubeVirt 1.9 does it. Pure.
///
/// The limit is 150 ms until the third round ends; then it rises by a seventh of the way to 1050 ms
/// every 10 s, in 7 steps. Limits of the user's do not enter, as they do not there.
public struct Ramp: MigrationStrategy, Equatable {
  static let firstLimitMs: UInt64 = 150
  static let lastLimitMs: UInt64 = 1050
  static let stepCount: UInt64 = 7
  static let stepAfterRound: UInt64 = 3
  static let stepEveryMs: UInt64 = 10_000

  public let name = StrategyName.ramp
  let facts: EngineFacts
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  private var steppedSinceMs: UInt64?

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) { self.facts = facts }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    let isRoundEnd = watch.ended(sample) != nil
    guard sample.freshPages == 0, !sample.isCollecting else { return [] }
    if steppedSinceMs == nil, watch.count >= Self.stepAfterRound { steppedSinceMs = sample.nowMs }
    if isRoundEnd, StopForecast(sample, facts).fits(limitMs(at: sample.nowMs)) {
      return [.stop(limitMs(at: sample.nowMs) == Self.firstLimitMs ? .fits : .raised)]
    }
    guard sample.owedPages == 0, pacer.take(sample, after: EpochPacer.leastMs) else { return [] }
    return [.collect]
  }

  /// The first step comes with the third round's end.
  func limitMs(at nowMs: UInt64) -> UInt64 {
    guard let steppedSinceMs else { return Self.firstLimitMs }
    let steps = min(nowMs.minusFloored(steppedSinceMs) / Self.stepEveryMs + 1, Self.stepCount)
    return Self.firstLimitMs + (Self.lastLimitMs - Self.firstLimitMs) * steps / Self.stepCount
  }
}
