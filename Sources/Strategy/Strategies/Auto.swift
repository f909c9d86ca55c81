import Base

/// `auto`: chooses among the strategies from what the scan has shown. Pure.
///
/// The scan is that of `hotpages` and of `dsm`: everything dirtied waits. After it the first epoch decides
/// (`AutoChoice`), and while `hotpages` is at work, so does its wish to stop with a longer pause than the
/// limit: then another may do better.
public struct Auto: MigrationStrategy {
  /// Epochs whose heat says how a round would go. Where QEMU's first pass can't be interrupted they come after it,
  /// while everything is sent once more.
  static let epochsMin: UInt64 = 3

  public let name = StrategyName.auto
  let facts: EngineFacts
  let constraints: MigrationConstraints
  private var hot: HotPages
  private var other: (any MigrationStrategy)?
  private var watch = EpochWatch()
  private var lastEpoch: EpochReport?
  private var hasChosen = false
  /// Why the strategy at work was taken; nil during the scan.
  public private(set) var reason: String?

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    (self.constraints, self.facts) = (constraints, facts)
    hot = HotPages(constraints, facts)
  }

  public var acting: StrategyName { other?.acting ?? hot.acting }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    if other != nil { return other?.handle(sample) ?? [] }
    let ended = watch.ended(sample)
    lastEpoch = ended ?? lastEpoch
    let effects = hot.handle(sample)
    guard sample.freshPages == 0, let epoch = lastEpoch, sample.wireRate != nil else {
      return effects
    }
    let isFitting = effects.contains(.stop(.fits))
    let isStopping = effects.contains(where: \.isLast)
    let mayChoose = !hasChosen && ended != nil && watch.count >= Self.epochsMin
    guard !isFitting, mayChoose || isStopping else { return effects }
    hasChosen = true
    let choice = AutoChoice(sample, epoch, facts, constraints, roundsAreOver: isStopping)
    reason = choice.reason
    switch choice.name {
    case .dsm: return take(DSM(constraints, facts), effects, sample)
    case .adaptive: return take(Adaptive(constraints, facts), effects, sample)
    default: return effects
    }
  }

  /// The strategy is at work from here on. For `dsm` its pass is over: it waits for what is on its way, looks once more,
  /// and moves the guest.
  private mutating func take(
    _ strategy: some MigrationStrategy, _ effects: [EngineEffect], _ sample: EngineSample
  ) -> [EngineEffect] {
    var strategy = strategy
    let first = strategy.handle(sample)
    other = strategy
    return effects.filter { !$0.isLast } + first
  }
}

/// Which strategy takes over after the scan, and why. Pure.
public struct AutoChoice: Sendable, Equatable {
  public let name: StrategyName
  public let reason: String

  /// - Parameter roundsAreOver: rounds of `hotpages` have stopped making the pause shorter.
  init(
    _ sample: EngineSample, _ epoch: EpochReport, _ facts: EngineFacts,
    _ constraints: MigrationConstraints, roundsAreOver: Bool
  ) {
    let limitMs = constraints.downtimeLimitMs
    let pauseMs = StopForecast(sample, facts).downtimeMs ?? .max
    if !roundsAreOver, let roundMs = Self.fittingRoundMs(sample, epoch, facts, limitMs) {
      let pullMs = sample.milliseconds(forPages: sample.owedPages) ?? .max
      let allowedMs = pullMs.addingSaturating(sample.elapsedMs / 10)
      if !facts.canPull || roundMs <= allowedMs {
        self.init(
          .hotpages, "one more round of \(roundMs) ms is forecast to keep the downtime limit")
        return
      }
    }
    if facts.canPull {
      self.init(
        .dsm, "a stop now would pause the guest for \(pauseMs) ms; the destination can pull")
    } else if !roundsAreOver {
      self.init(.hotpages, "the destination can't pull: rounds make the pause shorter")
    } else if pauseMs > constraints.downtimeCeilingMs {
      self.init(.adaptive, "a stop now would pause the guest for \(pauseMs) ms, above the ceiling")
    } else {
      self.init(.hotpages, "further rounds would not make the pause of \(pauseMs) ms shorter")
    }
  }

  private init(_ name: StrategyName, _ reason: String) { (self.name, self.reason) = (name, reason) }

  /// Milliseconds of the shortest round that is forecast to end within the limit.
  private static func fittingRoundMs(
    _ sample: EngineSample, _ epoch: EpochReport, _ facts: EngineFacts, _ limitMs: UInt64
  ) -> UInt64? {
    let pages = sample.pages(inMs: limitMs.minusFloored(facts.pauseOverheadMs)) ?? 0
    return HotPlan.all(sample, epoch)
      .first { $0.stopPages <= pages && $0.sentPages > 0 }?.roundMs
  }
}
