public import Base

/// Holds a strategy to the user's time. Pure.
///
/// With `withinMs` it acts as `atDeadline` says, so early that the guest runs at the destination in time:
/// the forecast pause and a margin before the end. Without, patience ends what would never end: ten times
/// the time of a pass over RAM, at least ten minutes. A link that stands still is not waited for in a
/// pause: then the migration is given up, and the guest goes on at the source.
///
/// With a deadline it has the dirty log read at least each second, whatever the strategy does, because what was dirtied
/// since the last look is not in the forecast otherwise. Before the first epoch has ended (QEMU is in its
/// first pass) nobody knows what is dirty again: then all that was sent counts, or what a sample
/// beforehand said (`EngineFacts.dirtyBound`). A link that stalls for a moment, as TCP does when it has found the
/// link's end, is taken to be as fast as just before: what a moment's rate says of the pause would stop the guest
/// for nothing. A strategy that may pull of its own accord does so in
/// place of a stop.
public struct DeadlineGuard: MigrationStrategy {
  /// Patience without a deadline, in milliseconds and in passes over RAM.
  static let patienceMs: UInt64 = 600_000
  static let patiencePasses: UInt64 = 10
  /// Margin: what samples and the last look at the dirty log may be late, in milliseconds, and what a
  /// forecast pause may be wrong by, in thousandths.
  static let marginMs: UInt64 = 250
  static let marginPermille: UInt64 = 125
  /// Longest epoch under a deadline, in milliseconds, and as a part of the time given.
  static let lookMostMs: UInt64 = 1000
  static let looksMin: UInt64 = 32

  /// How long a link may be slow before that is believed, in milliseconds: so much at most, and as a part of the
  /// time given; up to twice as long.
  static let stallMostMs: UInt64 = 500
  static let stallParts: UInt64 = 16

  /// The strategy that is held to the time, as far as it has come.
  public private(set) var inner: any MigrationStrategy
  let constraints: MigrationConstraints
  let facts: EngineFacts
  private var passMs: UInt64?
  private var best: RecentBest
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  /// Pages dirtied per second, in the last epoch and in the busiest.
  private var pace: UInt64 = 0
  private var paceMost: UInt64 = 0

  /// With the constraints and facts that `inner` was made of.
  public init(
    _ inner: any MigrationStrategy, _ constraints: MigrationConstraints, _ facts: EngineFacts
  ) {
    (self.inner, self.constraints, self.facts) = (inner, constraints, facts)
    let partMs = (constraints.withinMs ?? 0) / Self.stallParts
    best = RecentBest(halfMs: min(max(partMs, 1), Self.stallMostMs))
  }

  /// The link's rate as it is believed; nil before any is known.
  public var believedRate: ByteRate? { best.rate }

  /// Notes the link's rate while nothing is decided yet.
  public mutating func noteRate(_ sample: EngineSample) {
    best.note(sample.wireRate, nowMs: sample.nowMs)
  }

  public var name: StrategyName { inner.name }
  public var acting: StrategyName { inner.acting }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    if let ms = sample.milliseconds(forPages: facts.ramPages) { passMs = ms }
    if let epoch = watch.ended(sample) {
      pace = epoch.dirtiedPages.scaled(by: 1000, over: max(epoch.lengthMs, 1))
      paceMost = max(paceMost, pace)
    }
    noteRate(sample)
    var steady = sample
    steady.wireRate = best.rate
    if let last = ending(steady) { return [last] }
    var effects = inner.handle(sample)
    guard let withinMs = constraints.withinMs else { return effects }
    let lookMs = min(withinMs / Self.looksMin, Self.lookMostMs)
    if !effects.contains(where: { $0 == .collect || $0.isLast }), pacer.take(sample, after: lookMs)
    {
      effects.append(.collect)
    }
    let endMs = sample.elapsedMs.addingSaturating(Self.pauseMs(steady, facts))
    guard endMs > withinMs, effects.contains(where: \.isStop) else { return effects }
    // The strategy would be late.
    let others = effects.filter { !$0.isLast }
    switch constraints.atDeadline {
    case .stop, .postcopy: return mayPull ? others + [.pull(.deadline)] : effects
    case .abort: return others + [.abandon("the pause would end after --within")]
    }
  }

  /// The effect that ends everything now, or nil while the strategy may go on.
  private func ending(_ sample: EngineSample) -> EngineEffect? {
    guard let withinMs = constraints.withinMs else {
      let limitMs = max(Self.patienceMs, (passMs ?? 0).scaled(by: Self.patiencePasses, over: 1))
      guard sample.elapsedMs >= limitMs else { return nil }
      return .abandon(
        "no end in sight after \(sample.elapsedMs / 1000) s, and --within was not given")
    }
    let leadMs = leadMs(sample)
    guard sample.elapsedMs.addingSaturating(leadMs) >= withinMs else { return nil }
    guard sample.wireRate != nil else {
      return .abandon("the link stands still, and --within is about to run out")
    }
    switch constraints.atDeadline {
    case .stop, .postcopy: return mayPull ? .pull(.deadline) : .stop(.deadline)
    case .abort: return .abandon("--within is about to run out")
    }
  }

  private var mayPull: Bool { Self.mayPull(inner.name, constraints, facts) }

  /// Whether the guest moves before its memory when time is about to run out.
  static func mayPull(
    _ strategy: StrategyName, _ constraints: MigrationConstraints, _ facts: EngineFacts
  ) -> Bool {
    guard facts.canPull else { return false }
    switch constraints.atDeadline {
    case .postcopy: return true
    case .stop: return strategy == .dsm || strategy == .auto
    case .abort: return false
    }
  }

  /// How long before the end it must act, in milliseconds.
  private func leadMs(_ sample: EngineSample) -> UInt64 {
    guard sample.wireRate != nil else { return facts.pauseOverheadMs + Self.marginMs }
    switch constraints.atDeadline {
    case .stop, .postcopy: return mayPull ? pullMs(sample) : stopMs(sample)
    case .abort: return constraints.downtimeLimitMs.addingSaturating(Self.marginMs)
    }
  }

  /// The forecast pause, and what would come on top until the next look if the guest, quiet at present,
  /// became as busy as it has been.
  private func stopMs(_ sample: EngineSample) -> UInt64 {
    let growth = (paceMost - pace).scaled(by: Self.lookMostMs + Self.marginMs, over: 1000)
    let unknown = sample.lastEpoch == nil ? unknownPages(sample) : growth
    // What is owed already costs nothing more.
    let clean = facts.ramPages.minusFloored(StopForecast(sample, facts).pages)
    let unknownMs = sample.milliseconds(forPages: min(unknown, clean)) ?? 0
    return Self.pauseMs(sample, facts).addingSaturating(Self.withMargin(unknownMs) - Self.marginMs)
  }

  /// Sent pages that may have been dirtied since, as far as nobody has looked.
  private func unknownPages(_ sample: EngineSample) -> UInt64 {
    let sent = facts.ramPages.minusFloored(sample.freshPages)
    let untilLookMs = sample.elapsedMs.addingSaturating(Self.lookMostMs + Self.marginMs)
    return min(sent, facts.dirtyBound?.pages(withinMs: untilLookMs) ?? sent)
  }

  /// The forecast pause with its margin.
  static func pauseMs(_ sample: EngineSample, _ facts: EngineFacts) -> UInt64 {
    let pause = StopForecast(sample, facts).downtimeMs ?? facts.pauseOverheadMs
    return withMargin(pause)
  }

  static func withMargin(_ pauseMs: UInt64) -> UInt64 {
    pauseMs.addingSaturating(pauseMs.scaled(by: marginPermille, over: 1000))
      .addingSaturating(marginMs)
  }

  /// What is on its way, and the pause of a guest that moves before its memory.
  private func pullMs(_ sample: EngineSample) -> UInt64 {
    Self.withMargin((sample.arrivalMs ?? 0).addingSaturating(facts.pauseOverheadMs))
  }
}

extension EngineEffect {
  fileprivate var isStop: Bool { if case .stop = self { true } else { false } }
}
