import Testing

@testable import Lab

@Suite struct EstimateTests {
  @Test func medians() {
    #expect(Estimate.median([]) == nil)
    #expect(Estimate.median([3]) == 3)
    #expect(Estimate.median([9, 1, 5]) == 5)
    #expect(Estimate.median([4, 1, 9, 2]) == 3)
    #expect(Estimate.median([1, .infinity, 2]) == 2)
    #expect(Estimate.median([1, .infinity, .infinity]) == .infinity)
  }

  @Test func fewValuesHaveNoInterval() throws {
    #expect(Estimate([]) == nil)
    let two = try #require(Estimate([1, 3]))
    #expect(two.median == 2 && two.low == nil && two.high == nil && two.count == 2)
  }

  @Test func theIntervalHoldsTheMedianAndLiesWithinTheValues() throws {
    let values: [Double] = [12, 15, 11, 19, 14, 13, 16, 12, 18, 15]
    let estimate = try #require(Estimate(values))
    let (low, high) = (try #require(estimate.low), try #require(estimate.high))
    #expect(estimate.median == 14.5)
    #expect((12...14).contains(low) && (15...18).contains(high))
    #expect(Estimate(values) == estimate)
  }

  @Test func equalValuesHaveNoSpread() throws {
    let estimate = try #require(Estimate([7, 7, 7, 7]))
    #expect(estimate.low == 7 && estimate.high == 7)
  }

  /// One of five that did not end: the median is known, how bad it can get is not.
  @Test func whatDidNotEndWidensTheInterval() throws {
    let estimate = try #require(Estimate([5, 6, 7, .infinity, 6]))
    #expect(estimate.median == 6)
    #expect(estimate.low == 5 && estimate.high == .infinity)
  }

  /// Of many samples of a known distribution about 95 in 100 intervals hold its median.
  @Test func intervalsHoldTheTrueMedianAsOftenAsTheyPromise() throws {
    var random = SplitMix64Stream(seed: 7)
    var held = 0
    for round in 0..<80 {
      let values = (0..<15).map { _ in Double(random.next() % 1000) }
      let estimate = try #require(Estimate(values, seed: UInt64(round)))
      if let low = estimate.low, let high = estimate.high, (low...high).contains(499.5) {
        held += 1
      }
    }
    #expect((68...80).contains(held), "\(held)")
  }
}

/// The tests' own source of numbers.
private struct SplitMix64Stream {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    let mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
    return (mixed ^ (mixed >> 27)) >> 20
  }
}
