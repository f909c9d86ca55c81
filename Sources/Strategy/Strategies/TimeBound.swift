public import Base

/// `timebound`: one linear scan and, beside it, a stream of re-dirtied pages; ends with the scan. Pure.
///
/// The mechanism of Chanchio and Thaenkaew (TLM): the scan sends only pages that were never dirtied since
/// the start, the other stream those that were; a dirty page leaves the scan for good. So the scan
/// ends after at most all of RAM at its share of the link, and what is dirty then is sent with the guest
/// stopped: `boundMs`. Half the link is the scan's; what one stream can't use the other gets.
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
  /// How long the end of the scan waits for what is on its way, and how little of it counts as none,
  /// in milliseconds.
  static let drainMs: UInt64 = 500
  static let drainedMs: UInt64 = 100

  public let name = StrategyName.timebound
  let facts: EngineFacts
  let form: ThrottleForm
  private let throttle: Throttle
  private var freeze: FreezeLoop
  private var pacer = EpochPacer()
  private var watch = EpochWatch()
  private var hasStarted = false
  private var limit = CPULimit.none
  private var scanEndMs: UInt64?

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    self.facts = facts
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
      effects += [.share(scanPermille: Self.scanPermille), .holdBack(heat: 9)]
    }
    if sample.freshPages == 0 {
      let sinceMs = scanEndMs ?? sample.nowMs
      scanEndMs = sinceMs
      if isDrained(sample) || sample.nowMs >= sinceMs.addingSaturating(Self.drainMs) {
        return effects + [.stop(.scanDone)]
      }
      return effects
    }
    if let epoch = watch.ended(sample) { freeze.note(epoch, sample) }
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

  private func isDrained(_ sample: EngineSample) -> Bool {
    guard let rate = sample.wireRate else { return false }
    return rate.milliseconds(for: ByteCount(sample.inFlightBytes)) <= Self.drainedMs
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
