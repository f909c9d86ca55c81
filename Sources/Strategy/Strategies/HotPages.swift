import Base

/// `hotpages`: pre-copy for guests that keep writing the same pages (Jain 2021). Pure.
///
/// While the scan runs, everything that is dirtied waits, and epochs teach the pages' heat. Then rounds
/// send pages colder than a threshold, and hotter ones wait until they cool or the guest stops. The
/// threshold is the lowest whose round is forecast to end within the downtime limit (`HotPlan`); where
/// none does, the one that leaves the smallest stop set. It ends when the forecast pause fits the limit,
/// or when neither a further round nor the last epochs make the stop set smaller.
public struct HotPages: MigrationStrategy, Equatable {
  /// A stop set that shrinks by less than this, in thousandths, has stopped shrinking.
  static let gainPermille: UInt64 = 40
  /// A round must shrink the stop set by this share of what it sends, in thousandths.
  static let yieldPermille: UInt64 = 125
  /// A plan fits when it is forecast to leave this share of what the limit allows, in thousandths.
  static let trustPermille: UInt64 = 800
  /// Pages that were dirtied in more than so many of 8 epochs are not worth sending before the stop.
  static let heatMost: UInt8 = 7
  /// Epochs without a new least before it ends.
  static let patienceEpochs: UInt64 = 4

  public let name = StrategyName.hotpages
  let facts: EngineFacts
  let downtimeLimitMs: UInt64
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  private var heat: UInt8?
  private var hasStarted = false
  /// Epochs that ended before the scan did: what they say of the stop set is old.
  private var epochsInScan: UInt64 = 0
  /// Set once nothing makes the stop set smaller: the guest stops when this tooth's foot is reached.
  private var tooth: SawTooth?
  /// Least stop set since the scan ended, and epochs since then.
  private var least: UInt64?
  private var epochsSinceLeast: UInt64 = 0
  /// The plan of the last look after the scan; nil before.
  private(set) var plan: HotPlan?

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    self.facts = facts
    downtimeLimitMs = constraints.downtimeLimitMs
  }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    var effects: [EngineEffect] = []
    if !hasStarted {
      hasStarted = true
      effects.append(.share(scanPermille: 1000))
      effects += hold(0)
    }
    let epoch = watch.ended(sample)
    guard sample.freshPages == 0 else {
      epochsInScan = watch.count
      return effects
        + collect(
          sample,
          after: ScanEpochs.lengthMs(sample, facts, thenMs: RoundEpochs.lengthMs(downtimeLimitMs)))
    }
    guard !sample.isCollecting else { return effects }
    let forecast = StopForecast(sample, facts)
    if SawTooth.isForeseeable(sample), watch.count > epochsInScan,
      forecast.fitsSafely(downtimeLimitMs)
    {
      return effects + [.stop(.fits)]
    }
    if tooth != nil {
      return effects + (tooth?.isAtFoot(forecast.pages, sample) ?? true ? [.stop(.noGain)] : [])
    }
    guard let epoch else {
      return effects + sendHotter(sample) + collect(sample, after: roundMs(sample))
    }
    guard sample.wireRate != nil else { return effects + hold(9) }
    let isStuck = note(forecast.pages)
    guard let next = choose(sample, epoch), !isStuck else {
      var last = SawTooth()
      _ = last.isAtFoot(forecast.pages, sample)
      tooth = last
      return effects
    }
    // Never lower again: what was sent on trust of its heat would be for nothing.
    let heat = max(next.heat, plan == nil ? 0 : self.heat ?? 0)
    plan = next
    return effects + hold(heat)
  }

  /// The best next round, or nil when none pays.
  private func choose(_ sample: EngineSample, _ epoch: EpochReport) -> HotPlan? {
    let plans = HotPlan.all(sample, epoch)
    let limitPages = sample.pages(inMs: downtimeLimitMs.minusFloored(facts.pauseOverheadMs)) ?? 0
    let fitting = plans.first { plan in
      plan.sentPages > 0 && plan.stopPages <= limitPages.scaled(by: Self.trustPermille, over: 1000)
    }
    if let fitting { return fitting }
    let owed = sample.dirtyOwedPages
    return plans.filter { plan in
      let gain = owed.minusFloored(plan.stopPages)
      return gain > 0 && gain.reaches(Self.gainPermille, permilleOf: owed)
        && gain.reaches(Self.yieldPermille, permilleOf: plan.sentPages)
    }.min { $0.stopPages < $1.stopPages }
  }

  /// Notes the stop set at an epoch's end; says whether it has stopped shrinking.
  private mutating func note(_ pages: UInt64) -> Bool {
    if let least, pages.reaches(1000 - Self.gainPermille, permilleOf: least) {
      epochsSinceLeast += 1
    } else {
      (least, epochsSinceLeast) = (pages, 0)
    }
    return epochsSinceLeast >= Self.patienceEpochs
  }

  /// Until what the plan sends is sent: the dirty log is read again then, but each epoch at least.
  private func roundMs(_ sample: EngineSample) -> UInt64 {
    let cold = sample.dirtyOwedPages(colderThan: heat ?? 9)
    return cold > 0 && watch.count > 0 ? RoundEpochs.lengthMs(downtimeLimitMs) : EpochPacer.leastMs
  }

  /// Nothing colder is owed: the coldest of those that wait are sent, rather than nothing.
  private mutating func sendHotter(_ sample: EngineSample) -> [EngineEffect] {
    guard plan != nil, let heat, sample.dirtyOwedPages(colderThan: heat) == 0 else { return [] }
    let next = (min(heat, Self.heatMost)..<Self.heatMost).first {
      sample.dirtyOwedPages(colderThan: $0 + 1) > 0
    }
    return next.map { hold($0 + 1) } ?? []
  }

  private mutating func collect(_ sample: EngineSample, after ms: UInt64) -> [EngineEffect] {
    pacer.take(sample, after: ms) ? [.collect] : []
  }

  private mutating func hold(_ heat: UInt8) -> [EngineEffect] {
    guard self.heat != heat else { return [] }
    self.heat = heat
    return [.holdBack(heat: heat)]
  }
}
