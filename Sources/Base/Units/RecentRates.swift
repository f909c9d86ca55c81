/// The best of the last samples of a rate, in whatever unit they have.
///
/// What a way carries shows where it had enough to carry; the samples in which it hadn't are lower and don't count. Old
/// ones are forgotten, so that a way that has become slower is believed.
public struct RecentRates: Sendable, Equatable {
  /// Samples whose best counts.
  public static let samplesMax = 8

  /// As a ring.
  private var rates: [UInt64] = []
  private var next = 0

  public init() {}

  /// Nil before the first.
  public var best: UInt64? { rates.max() }

  /// Takes a sample in, and forgets the oldest once there are `samplesMax`.
  public mutating func note(_ rate: UInt64) {
    if rates.count < Self.samplesMax { return rates.append(rate) }
    rates[next] = rate
    next = (next + 1) % Self.samplesMax
  }
}
