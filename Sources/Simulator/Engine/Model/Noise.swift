import Base

/// Seeded noise. Sums of uniform numbers stand in for the normal distribution: exact everywhere, and
/// bounded, so that nothing absurd is ever drawn.
struct Noise: Sendable {
  private var random: SplitMix64

  init(seed: UInt64) { random = SplitMix64(seed: seed) }

  /// Even over 0 ..< 1.
  mutating func uniform() -> Double { Double(random.next() >> 11) / 9_007_199_254_740_992 }

  /// Mean 0, deviation 1, within ±6.
  mutating func normal() -> Double {
    var sum = -6.0
    for _ in 0..<12 { sum += uniform() }
    return sum
  }

  /// A factor around 1 with this relative deviation, at least 0.05.
  mutating func factor(_ deviation: Double) -> Double {
    deviation > 0 ? max(1 + deviation * normal(), 0.05) : 1
  }

  mutating func next() -> UInt64 { random.next() }
}
