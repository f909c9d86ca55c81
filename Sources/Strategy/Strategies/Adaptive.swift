import Base

/// `adaptive`: regression over the history of the writable working set sets the downtime limit
/// (Piao et al. 2014). Pure.
///
/// After the scan, epochs of equal length give two series: the working set w and the stop set y. Straight
/// lines through their last 8 values foretell both one epoch ahead; the stop set is never forecast below
/// the working set. While y falls so fast that it meets the limit within the budget, the rounds go on. If
/// not, the limit is raised to what the forecast needs, up to the ceiling, and the guest stops at the next
/// local minimum. Above the ceiling the guest is slowed down step by step, as far as allowed, and when the
/// budget is used up, `atDeadline` decides. The budget is the scan's own time: doubling it is the most that
/// a shorter pause may cost.
public struct Adaptive: MigrationStrategy, Equatable {
  /// A fall per epoch below this share of the stop set, in thousandths, is none.
  static let gainPermille: UInt64 = 20
  /// How much above the least of the window counts as a local minimum, and how many epochs one may take.
  static let minimumPermille: UInt64 = 1020
  static let minimumEpochs: UInt64 = 4
  /// Throttling rises in so many steps.
  static let throttleSteps: UInt64 = 4
  static let budgetLeastMs: UInt64 = 5_000

  public let name = StrategyName.adaptive
  let facts: EngineFacts
  let constraints: MigrationConstraints
  private let throttle: Throttle
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  private var hasStarted = false
  private var workingSet = LinearFit()
  private var stopSet = LinearFit()
  private var beganMs: UInt64 = 0
  private var scanEndMs: UInt64?
  private var waitedForMinimum: UInt64 = 0
  private var throttleStep: UInt64 = 0
  private var epochsSinceScan: UInt64 = 0
  /// Set once the limit is raised: the guest stops at the foot of this tooth.
  private var tooth: SawTooth?

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    (self.constraints, self.facts) = (constraints, facts)
    throttle = Throttle(constraints, facts)
  }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    var effects: [EngineEffect] = []
    if !hasStarted {
      (hasStarted, beganMs) = (true, sample.beganMs)
      effects += [.share(scanPermille: 1000), .holdBack(heat: 9)]
    }
    let epoch = watch.ended(sample)
    guard sample.freshPages == 0 else {
      let lengthMs = ScanEpochs.lengthMs(sample, facts)
      return effects + (pacer.take(sample, after: lengthMs) ? [.collect] : [])
    }
    let isFirstLook = scanEndMs == nil
    if isFirstLook { scanEndMs = sample.nowMs }
    guard !sample.isCollecting else { return effects }
    let forecast = StopForecast(sample, facts)
    // What the scan left is collected before anything is concluded.
    if epoch != nil, !isFirstLook { epochsSinceScan += 1 }
    if epochsSinceScan > 0, SawTooth.isForeseeable(sample),
      forecast.fitsSafely(constraints.downtimeLimitMs)
    {
      return effects + [.stop(.fits)]
    }
    if var tooth {
      let isAtFoot = tooth.isAtFoot(forecast.pages, sample)
      self.tooth = tooth
      return effects + (isAtFoot ? [.stop(.raised)] : [])
    }
    if let epoch, !isFirstLook { effects += judge(epoch, sample, forecast) }
    if tooth != nil || effects.contains(where: \.isLast) { return effects }
    let lengthMs = isFirstLook || sample.owedPages == 0 ? EpochPacer.leastMs : epochLengthMs
    if pacer.take(sample, after: lengthMs) { effects.append(.collect) }
    return effects
  }

  private var epochLengthMs: UInt64 { RoundEpochs.lengthMs(constraints.downtimeLimitMs) }

  private mutating func judge(
    _ epoch: EpochReport, _ sample: EngineSample, _ forecast: StopForecast
  ) -> [EngineEffect] {
    guard let downtimeMs = forecast.downtimeMs else { return [] }
    workingSet.note(epoch.dirtiedPages)
    stopSet.note(forecast.pages)
    guard let slope = stopSet.slope, let next = forecastPages(forecast.pages) else { return [] }
    if isConverging(forecast, sample, slope) { return [] }
    let nextMs = sample.milliseconds(forPages: next).map {
      $0.addingSaturating(facts.pauseOverheadMs)
    }
    let neededMs = min(nextMs ?? .max, downtimeMs)
    if neededMs <= constraints.downtimeCeilingMs {
      waitedForMinimum += 1
      let least = stopSet.values.min() ?? 0
      let isMinimum = !forecast.pages.reaches(Self.minimumPermille + 1, permilleOf: least)
      guard isMinimum || waitedForMinimum > Self.minimumEpochs else { return [] }
      // What is on its way is in the pause, and not in the forecast: that alone may be above the ceiling for good.
      guard downtimeMs <= constraints.downtimeCeilingMs else {
        return isBudgetUsedUp(sample) ? [atEnd] : []
      }
      var last = SawTooth()
      _ = last.isAtFoot(forecast.pages, sample)
      tooth = last
      return []
    }
    if throttle.isAllowed, throttleStep < Self.throttleSteps {
      throttleStep += 1
      // The history of a faster guest says nothing about this one.
      workingSet.forget()
      stopSet.forget()
      return [.limitCPU(throttle.step(permille: throttleStep * 1000 / Self.throttleSteps))]
    }
    return isBudgetUsedUp(sample) ? [atEnd] : []
  }

  /// The stop set one epoch ahead: on its line, but not below the working set on its own.
  private func forecastPages(_ now: UInt64) -> UInt64? {
    guard let ahead = stopSet.forecast(), let working = workingSet.forecast() else { return nil }
    return min(max(ahead, working), facts.ramPages)
  }

  /// Whether the stop set falls noticeably and meets the limit within the budget at this pace.
  private func isConverging(
    _ forecast: StopForecast, _ sample: EngineSample,
    _ slope: (numerator: Int64, denominator: Int64)
  ) -> Bool {
    let limitMs = constraints.downtimeLimitMs.minusFloored(facts.pauseOverheadMs)
    guard slope.numerator < 0, let target = sample.pages(inMs: limitMs) else { return false }
    let fall = max(slope.numerator.magnitude / slope.denominator.magnitude, 1)
    guard fall.reaches(Self.gainPermille, permilleOf: forecast.pages) else { return false }
    let epochs = forecast.pages.minusFloored(target) / fall
    let neededMs = epochs.scaled(by: epochLengthMs, over: 1)
    return sample.nowMs.addingSaturating(neededMs) <= budgetEndMs
  }

  private var budgetEndMs: UInt64 {
    guard let scanEndMs else { return .max }
    return scanEndMs.addingSaturating(max(scanEndMs.minusFloored(beganMs), Self.budgetLeastMs))
  }
  private func isBudgetUsedUp(_ sample: EngineSample) -> Bool { sample.nowMs >= budgetEndMs }

  /// What the user wants when nothing else ends it.
  private var atEnd: EngineEffect {
    switch constraints.atDeadline {
    case .postcopy where facts.canPull: .pull(.deadline)
    case .stop, .postcopy: .stop(.deadline)
    case .abort: .abandon("the pause would be longer than --downtime-ceiling allows")
    }
  }
}

extension EngineEffect {
  /// Whether a strategy's work ends with it.
  public var isLast: Bool {
    switch self {
    case .stop, .pull, .abandon: true
    case .collect, .holdBack, .share, .limitCPU: false
    }
  }
}
