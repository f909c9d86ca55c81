import Base

/// Rival `stall`: pre-copy that switches over at a local minimum once it makes no progress, as KubeVirt
/// 1.9 does it. Pure.
///
/// It stalls when what remains at a round's end is at least 0.96 of the least that remained at the end
/// of a round more than 40 s ago. From then on the first round that leaves no more than the least ever
/// seen (with the same margin), or less than the round before, is the last one. Before that, the
/// user's downtime limit ends it.
public struct Stall: MigrationStrategy, Equatable {
  static let marginPermille: UInt64 = 960
  static let windowMs: UInt64 = 40_000
  /// Rounds after the stall within which a minimum must have come; the next one is the last anyway.
  static let roundsAfterStallMax: UInt64 = 8
  /// Weight of the newest rate in the average, in thousandths.
  static let rateWeightPermille: UInt64 = 200

  private struct Round: Sendable, Equatable { let atMs, remaining: UInt64 }

  public let name = StrategyName.stall
  let facts: EngineFacts
  let downtimeLimitMs: UInt64
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  /// Rounds of the last 40 s, and the least before these.
  private var recent: [Round] = []
  private var leastOld: UInt64?
  private var roundsSinceStall: UInt64?
  private var rate: UInt64?

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    self.facts = facts
    downtimeLimitMs = constraints.downtimeLimitMs
  }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    let isRoundEnd = watch.ended(sample) != nil
    guard sample.freshPages == 0, !sample.isCollecting else { return [] }
    if isRoundEnd, let reason = judge(sample) { return [.stop(reason)] }
    guard sample.owedPages == 0, pacer.take(sample, after: EpochPacer.leastMs) else { return [] }
    return [.collect]
  }

  private mutating func judge(_ sample: EngineSample) -> StopReason? {
    if let now = sample.wireRate?.bytesPerSecond {
      let weight = Self.rateWeightPermille
      rate =
        rate.map { $0.scaled(by: 1000 - weight, over: 1000) + now.scaled(by: weight, over: 1000) }
        ?? now
    }
    let forecast = StopForecast(sample, facts)
    let downtimeMs = rate.flatMap(ByteRate.init(bytesPerSecond:)).map {
      $0.milliseconds(for: ByteCount(forecast.bytes)).addingSaturating(facts.pauseOverheadMs)
    }
    guard let downtimeMs else { return nil }
    if downtimeMs <= downtimeLimitMs { return .fits }
    let previous = recent.last?.remaining
    note(Round(atMs: sample.nowMs, remaining: forecast.pages))
    guard let leastOld else { return nil }
    if forecast.pages.reaches(Self.marginPermille, permilleOf: leastOld), roundsSinceStall == nil {
      roundsSinceStall = 0
    }
    guard let rounds = roundsSinceStall else { return nil }
    roundsSinceStall = rounds + 1
    let least = min(leastOld, recent.map(\.remaining).min() ?? .max)
    let isLeast = !forecast.pages.reaches(2000 - Self.marginPermille, permilleOf: least)
    let isFalling = previous.map { forecast.pages <= $0 } ?? true
    return isLeast || isFalling || rounds >= Self.roundsAfterStallMax ? .noGain : nil
  }

  private mutating func note(_ round: Round) {
    recent.append(round)
    while let first = recent.first, round.atMs > first.atMs.addingSaturating(Self.windowMs) {
      leastOld = min(leastOld ?? .max, first.remaining)
      recent.removeFirst()
    }
  }
}
