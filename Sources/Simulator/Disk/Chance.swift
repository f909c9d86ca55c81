import Base

extension SplitMix64 {
  /// A number from 0 to `bound - 1`; 0 for a bound below 1.
  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(max(bound, 1))) }

  /// A number from 0 to 1, without 1.
  mutating func share() -> Double { Double(next() >> 11) / 9_007_199_254_740_992 }
}
