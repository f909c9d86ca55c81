import Base

/// A median with a 95 % interval from the bootstrap (Efron 1979): how far it would lie elsewhere, had
/// the same experiment been done again.
///
/// A value that was not reached (a migration that did not end) counts as `.infinity`: larger than any.
public struct Estimate: Sendable, Equatable {
  public let median: Double
  /// Nil for fewer than three values: so few say nothing about their spread.
  public let low, high: Double?
  public let count: Int

  static let resampleCount = 2000
  static let countMin = 3

  /// Nil without values. The same values and seed give the same interval.
  public init?(_ values: [Double], seed: UInt64 = 1) {
    guard let median = Self.median(values) else { return nil }
    (self.median, count) = (median, values.count)
    guard values.count >= Self.countMin else {
      (low, high) = (nil, nil)
      return
    }
    var random = SplitMix64(seed: seed)
    var medians: [Double] = []
    medians.reserveCapacity(Self.resampleCount)
    for _ in 0..<Self.resampleCount {
      let sample = values.map { _ in values[Int(random.next() % UInt64(values.count))] }
      medians.append(Self.median(sample) ?? median)
    }
    medians.sort()
    low = medians[Self.resampleCount * 25 / 1000]
    high = medians[Self.resampleCount * 975 / 1000 - 1]
  }

  /// The middle value, or the mean of the two middle ones. Nil without values.
  static func median(_ values: [Double]) -> Double? {
    guard !values.isEmpty else { return nil }
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}
