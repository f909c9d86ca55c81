/// NPB's random numbers: `x(k+1) = 5^13 x(k) mod 2^46`, read as `x × 2^-46`.
struct NASRandom: Sendable {
  static let multiplier: UInt64 = 1_220_703_125
  private static let mask: UInt64 = 1 << 46 - 1
  private static let scale = 1 / Double(1 << 46 as UInt64)

  private var state: UInt64

  /// Every kernel but one begins with 314159265.
  init(seed: UInt64 = 314_159_265) { state = seed }

  /// The next number, in `0..<1`. The product is right modulo 2^64, hence modulo 2^46.
  @inline(__always)
  mutating func next() -> Double {
    state = state &* Self.multiplier & Self.mask
    return Double(state) * Self.scale
  }
}
