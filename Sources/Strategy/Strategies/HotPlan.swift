import Base

/// What holding back pages from some heat on would lead to, one round ahead. Pure.
///
/// A page of heat k is taken to be dirtied in an epoch with probability k/8 (1/16 for heat 0), so a page
/// that is sent in a round of n epochs is dirty again at its end with 1 − (1 − k/8)^(n/2): it is exposed
/// for half of the round on average. While fewer than 8 epochs have ended, k is out of that many, but of 3 at
/// least: one epoch says little of the next.
struct HotPlan: Sendable, Equatable {
  /// Pages from this heat on wait, `0...9`.
  var heat: UInt8
  /// Pages that the round sends, and the stop set that it is forecast to leave.
  var sentPages, stopPages: UInt64
  /// Milliseconds that the round takes.
  var roundMs: UInt64

  /// Thousandths of a page that are still clean after one epoch, by heat.
  private static let survival: [UInt64] = [937, 875, 750, 625, 500, 375, 250, 125, 0]

  private static let epochsMin: UInt64 = 3

  init(heat: UInt8, _ sample: EngineSample, _ epoch: EpochReport) {
    self.heat = heat
    let byHeat = sample.dirtyOwedByHeat
    sentPages = sample.dirtyOwedPages(colderThan: heat)
    roundMs = sample.milliseconds(forPages: sentPages) ?? .max
    let halves = roundMs.scaled(by: 2, over: max(epoch.lengthMs, 1))
    let exposed = max(halves / 4, sentPages > 0 ? 1 : 0)
    var stop = sample.dirtyOwedPages.minusFloored(sentPages)
    let seen = Int(min(max(epoch.number, Self.epochsMin), 8))
    for (index, pages) in byHeat.prefix(Int(heat)).enumerated() where index < Self.survival.count {
      let survival = Self.survival[min((index * 8 + seen / 2) / seen, 8)]
      stop = stop.addingSaturating(
        pages.scaled(by: 1000 - Self.power(survival, exposed), over: 1000))
    }
    stopPages = stop.addingSaturating(epoch.newlyOwedPages.scaled(by: halves, over: 2))
  }

  /// `permille`^n in thousandths.
  private static func power(_ permille: UInt64, _ exponent: UInt64) -> UInt64 {
    var result: UInt64 = 1000
    for _ in 0..<min(exponent, 128) where result > 0 { result = result * permille / 1000 }
    return result
  }

  /// The plans for every threshold, from holding everything back to nothing.
  static func all(_ sample: EngineSample, _ epoch: EpochReport) -> [HotPlan] {
    (0...9 as ClosedRange<UInt8>).map { HotPlan(heat: $0, sample, epoch) }
  }
}
