import Base

/// `dsm`: memory as distributed shared memory. One copy pass; what the guest dirties afterwards is only
/// marked invalid; then the guest moves, and the destination pulls what is invalid. Pure.
///
/// Where the destination can't pull (`EngineFacts.canPull`), the same pass is followed by what
/// `hotpages` does: there, too, dirtied pages wait until the scan is over.
public struct DSM: MigrationStrategy, Equatable {
  public let name = StrategyName.dsm
  let facts: EngineFacts
  private var fallback: HotPages?
  private var pacer = EpochPacer()
  private var hasStarted = false

  public init(_ constraints: MigrationConstraints, _ facts: EngineFacts) {
    self.facts = facts
    fallback = facts.canPull ? nil : HotPages(constraints, facts)
  }

  public var acting: StrategyName { fallback == nil ? .dsm : .hotpages }

  public mutating func handle(_ sample: EngineSample) -> [EngineEffect] {
    if fallback != nil { return fallback?.handle(sample) ?? [] }
    var effects: [EngineEffect] = []
    if !hasStarted {
      hasStarted = true
      effects += [.share(scanPermille: 1000), .holdBack(heat: 0)]
    }
    if sample.freshPages == 0 { return effects + [.pull(.scanDone)] }
    if pacer.take(sample, after: ScanEpochs.lengthMs(sample, facts)) { effects.append(.collect) }
    return effects
  }
}
