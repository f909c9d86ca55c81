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
  /// Epochs without a new least before it ends.
  static let patienceEpochs: UInt64 = 4
  static let epochMostMs: UInt64 = 1000

  public let name = StrategyName.hotpages
  let facts: EngineFacts
  let downtimeLimitMs: UInt64
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  private var newly = NewlyDirtied()
  private var heat: UInt8?
  private var hasStarted = false
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
    if let epoch { newly.note(epoch, sample) }
    guard sample.freshPages == 0 else {
      return effects + collect(sample, after: ScanEpochs.lengthMs(sample, facts))
    }
    guard !sample.isCollecting else { return effects }
    // Judged when the dirty log has just been read: later, what was written since is a guess.
    guard let epoch else {
      return effects + collect(sample, after: roundMs(sample))
    }
    let forecast = StopForecast(sample, facts)
    if forecast.fits(downtimeLimitMs) { return effects + [.stop(.fits)] }
    guard sample.wireRate != nil else { return effects + hold(9) }
    let isStuck = note(forecast.pages)
    guard let next = choose(sample, epoch), !isStuck else { return effects + [.stop(.noGain)] }
    plan = next
    return effects + hold(next.heat)
  }

  /// The best next round, or nil when none pays.
  private func choose(_ sample: EngineSample, _ epoch: EpochReport) -> HotPlan? {
    let plans = HotPlan.all(sample, newPages: newly.pages, epochMs: max(epoch.lengthMs, 1))
    let limitPages = sample.pages(inMs: downtimeLimitMs.minusFloored(facts.pauseOverheadMs)) ?? 0
    if let fitting = plans.first(where: { $0.stopPages <= limitPages && $0.sentPages > 0 }) {
      return fitting
    }
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

  /// Until what the plan sends is sent: the dirty log is read again then, but each second at least.
  private func roundMs(_ sample: EngineSample) -> UInt64 {
    let cold = sample.dirtyOwedPages(colderThan: heat ?? 9)
    guard cold > 0, watch.count > 0 else { return EpochPacer.leastMs }
    return Self.epochMostMs
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
