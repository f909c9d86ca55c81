import Base

/// `dsm`: memory as distributed shared memory. One copy pass; what the guest dirties afterwards is only
/// marked invalid; then the guest moves, and the destination pulls what is invalid. Pure.
///
/// Between the pass and the stop it waits for what is on its way: the destination's QEMU has to take all of that before it
/// can run the guest. Waiting makes some more pages invalid at most, and the pause shorter. Then it looks at the dirty log
/// once more: what the guest wrote since the last look QEMU writes into its stream while the guest stands still, though
/// nobody needs it there.
///
/// Where the destination can't pull (`EngineFacts.canPull`), the same pass is followed by what
/// `hotpages` does: there, too, dirtied pages wait until the scan is over.
public struct DSM: MigrationStrategy, Equatable {
  /// How little of what is on its way counts as none when the pass ends, in milliseconds.
  static let drainedMs: UInt64 = 10
  /// How long it is waited for, in milliseconds: nothing is added to it meanwhile, and it has to arrive either way.
  static let drainMostMs: UInt64 = 5000
  /// How many pages dirtied since the last look are worth another one: QEMU writes so many in a millisecond or two.
  static let unseenPages: UInt64 = 512
  /// How long the last look may take, in milliseconds: a guest that writes as fast as it is read doesn't hold the move up.
  static let lookMostMs: UInt64 = 1000

  public let name = StrategyName.dsm
  let facts: EngineFacts
  private var fallback: HotPages?
  private var pacer = EpochPacer()
  private var hasStarted = false
  private var passEndMs: UInt64?
  private var lookEndMs: UInt64?

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
    if sample.freshPages == 0 {
      let endMs = passEndMs ?? sample.nowMs
      passEndMs = endMs
      // Where no rate is known yet the guest is small.
      let isOver =
        sample.wireRate == nil
        || sample.hasDrained(
          to: Self.drainedMs, sinceMs: endMs, mostMs: Self.drainMostMs)
      return isOver ? effects + leave(sample) : effects
    }
    if pacer.take(sample, after: ScanEpochs.lengthMs(sample, facts)) { effects.append(.collect) }
    return effects
  }

  /// One look more where the guest has written since the last one, then the move.
  private mutating func leave(_ sample: EngineSample) -> [EngineEffect] {
    if let lookEndMs {
      return sample.isCollecting && sample.nowMs < lookEndMs ? [] : [.pull(.scanDone)]
    }
    let isAsked =
      sample.unreadPages >= Self.unseenPages
      && pacer.take(sample, after: EpochPacer.leastMs)
    guard isAsked || sample.isCollecting else { return [.pull(.scanDone)] }
    lookEndMs = sample.nowMs.addingSaturating(Self.lookMostMs)
    return isAsked ? [.collect] : []
  }
}
