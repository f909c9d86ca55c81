public import Base

/// `timebound`: one linear scan and, beside it, a stream of re-dirtied pages; ends with the scan. Pure.
///
/// The mechanism of Chanchio and Thaenkaew (TLM): the scan sends only pages that were never dirtied since
/// the start, the other stream those that were; a dirty page leaves the scan for good. So the scan
/// ends after at most all of RAM at its share of the link, and what is dirty then is sent with the guest
/// stopped: `boundMs`. Half the link is the scan's; what one stream can't use the other gets. With
/// `withinMs` the scan gets more where it would come too late otherwise.
///
/// Where the dirty log can't be read while the scan runs (QEMU is still in its first pass), there is nothing
/// for the other stream to send until the scan is over. Then it sends afterwards, for no longer than the
/// scan has taken: at half the link that would have taken as long as both.
///
/// With `maxThrottlePercent` the vCPUs are confined to fewer cores, at once or stepwise, after half of the
/// scan, or their running time follows what was sent (`freeze`). Without, they run free.
public struct TimeBound: MigrationStrategy, Equatable {
  /// The scan's share of the link, in thousandths.
  public static let scanPermille: UInt64 = 500
  /// Progress of the scan after which the guest may be slowed down, in thousandths.
  static let markerPermille: UInt64 = 500
  /// RAM above which epochs are longer, in pages: 8 GiB.
  static let largePages: UInt64 = 8 << 18
  /// How little of what is on its way counts as none when the scan ends, in milliseconds.
  static let drainedMs: UInt64 = 100

  public let name = StrategyName.timebound
  let facts: EngineFacts
  let constraints: MigrationConstraints
  let form: ThrottleForm
  private let throttle: Throttle
  private var freeze: FreezeLoop
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  private var hasStarted = false
  private var limit = CPULimit.none
  private var share = Self.scanPermille
  private var scanEndMs: UInt64?
  /// Whether the dirty log was read while the scan ran; else, the stop set of the last epoch after it.
  private var sentBesideScan = true
  private var lastStopSet: UInt64?

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    (self.constraints, self.facts) = (constraints, facts)
    form = constraints.throttleForm
    throttle = Throttle(constraints, facts)
    freeze = FreezeLoop(quotaLeast: throttle.quotaLeast)
  }

  /// The time that it promises, in milliseconds: RAM at the scan's share of the link, then RAM at the
  /// whole of it, and the fixed cost of a pause. A link slower than `rate` breaks the promise.
  public static func boundMs(
    _ facts: EngineFacts, rate: ByteRate, wireBytesPerPage: UInt64
  ) -> UInt64 {
    let ram = ByteCount(facts.ramPages.scaled(by: wireBytesPerPage, over: 1))
    let passMs = rate.milliseconds(for: ram)
    return passMs.scaled(by: 1000, over: scanPermille).addingSaturating(passMs)
      .addingSaturating(facts.pauseOverheadMs)
  }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    var effects: [EngineEffect] = []
    if !hasStarted {
      hasStarted = true
      effects += [.share(scanPermille: share), .holdBack(heat: 9)]
    }
    let epoch = watch.ended(sample)
    if sample.freshPages == 0 { return effects + afterScan(sample, epoch) }
    if let epoch { freeze.note(epoch, sample) }
    if epoch != nil, let wanted = wantedShare(sample), wanted != share {
      share = wanted
      effects.append(.share(scanPermille: wanted))
    }
    let wanted = wantedLimit(sample)
    if wanted != limit {
      limit = wanted
      effects.append(.limitCPU(wanted))
    }
    let epochMs = facts.ramPages > Self.largePages ? 3000 : 1000 as UInt64
    if pacer.take(sample, after: ScanEpochs.lengthMs(sample, facts, mostMs: epochMs)) {
      effects.append(.collect)
    }
    return effects
  }

  private mutating func afterScan(
    _ sample: EngineSample, _ epoch: EpochReport?
  ) -> [EngineEffect] {
    let sinceMs = scanEndMs ?? sample.nowMs
    if scanEndMs == nil {
      scanEndMs = sinceMs
      sentBesideScan = watch.count > 0
    }
    guard !sentBesideScan else {
      return sample.hasDrained(to: Self.drainedMs, sinceMs: sinceMs) ? [.stop(.scanDone)] : []
    }
    let forecast = StopForecast(sample, facts)
    if watch.count > 0 {
      let scanMs = sinceMs.minusFloored(sample.beganMs)
      let isOver = sample.elapsedMs >= scanMs.scaled(by: 1000, over: Self.scanPermille)
      if isOver || forecast.fits(constraints.downtimeLimitMs) { return [.stop(.scanDone)] }
      if epoch != nil {
        defer { lastStopSet = forecast.pages }
        if let lastStopSet, forecast.pages >= lastStopSet { return [.stop(.scanDone)] }
      }
    }
    let lengthMs = RoundEpochs.lengthMs(constraints.downtimeLimitMs)
    return pacer.take(sample, after: watch.count > 0 ? lengthMs : 0) ? [.collect] : []
  }

  /// The scan's share with which it ends in time for a pause of what is dirty now, `scanPermille...1000`.
  private func wantedShare(_ sample: EngineSample) -> UInt64? {
    guard let withinMs = constraints.withinMs,
      let scanMs = sample.milliseconds(forPages: sample.freshPages),
      let pauseMs = StopForecast(sample, facts).downtimeMs
    else { return nil }
    let dirtyMs = DeadlineGuard.withMargin(pauseMs.minusFloored(scanMs))
    let leftMs = withinMs.minusFloored(sample.elapsedMs).minusFloored(dirtyMs)
    guard leftMs > scanMs else { return 1000 }
    return max(scanMs.scaled(by: 1000, over: leftMs), Self.scanPermille)
  }

  private func wantedLimit(_ sample: EngineSample) -> CPULimit {
    guard throttle.isAllowed else { return .none }
    if form == .freeze { return freeze.limit }
    let left = min(sample.freshPages, facts.ramPages)
    let progress = (facts.ramPages - left).scaled(by: 1000, over: max(facts.ramPages, 1))
    guard progress >= Self.markerPermille else { return .none }
    guard form == .stepwise else { return throttle.strictest }
    let past = (progress - Self.markerPermille).scaled(by: 1000, over: 1000 - Self.markerPermille)
    return throttle.step(permille: past)
  }
}
