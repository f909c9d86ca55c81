/// The best of the last samples of a rate.
struct RecentRates: Sendable {
  /// Samples whose best counts.
  private static let samplesMax = 8

  /// As a ring.
  private var rates: [UInt64] = []
  private var next = 0

  /// Nil before the first.
  var best: UInt64? { rates.max() }

  mutating func note(_ rate: UInt64) {
    if rates.count < Self.samplesMax { return rates.append(rate) }
    rates[next] = rate
    next = (next + 1) % Self.samplesMax
  }
}
