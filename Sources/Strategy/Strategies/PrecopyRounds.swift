import Base

/// `precopy`: rounds over what the guest dirtied, until what is left fits the downtime limit. Pure.
///
/// A round begins when everything that was owed is sent. It is judged when the dirty log has just been
/// read: later, what the guest wrote since is a guess, and a low one after a long round. There is no
/// other end: a guest that dirties faster than the link carries goes on until `DeadlineGuard` decides.
/// The baseline that the others are measured against.
public struct PrecopyRounds: MigrationStrategy, Equatable {
  public let name = StrategyName.precopy
  let facts: EngineFacts
  let downtimeLimitMs: UInt64
  private var pacer = EpochPacer()
  private var watch = EpochWatch()

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    self.facts = facts
    downtimeLimitMs = constraints.downtimeLimitMs
  }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    let isRoundEnd = watch.ended(sample) != nil
    guard sample.freshPages == 0, !sample.isCollecting else { return [] }
    if isRoundEnd, StopForecast(sample, facts).fits(downtimeLimitMs) { return [.stop(.fits)] }
    guard sample.owedPages == 0, pacer.take(sample, after: EpochPacer.leastMs) else { return [] }
    return [.collect]
  }
}

extension StopForecast {
  /// Whether the pause is known and no longer than `limitMs`.
  public func fits(_ limitMs: UInt64) -> Bool { downtimeMs.map { $0 <= limitMs } ?? false }

  /// With a sixteenth to spare, for what no forecast knows: the rate's jitter, the stop itself.
  func fitsSafely(_ limitMs: UInt64) -> Bool {
    downtimeMs.map { $0.addingSaturating($0 / 16) <= limitMs } ?? false
  }
}
