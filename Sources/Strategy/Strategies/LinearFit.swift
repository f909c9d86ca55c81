/// A straight line through the last values of a series, by least squares in integers. Pure.
///
/// Exact: with x = 0, 1, …, n−1 the sums over x are whole numbers, and the slope stays a fraction.
struct LinearFit: Sendable, Equatable {
  /// Values looked at.
  static let windowMax = 8
  /// Fewest values that say anything about a slope.
  static let countMin = 3

  private(set) var values: [UInt64] = []

  /// Larger values are cut to 2^40, which is more pages than any guest has, so that no product
  /// overflows.
  mutating func note(_ value: UInt64) {
    values.append(min(value, 1 << 40))
    if values.count > Self.windowMax { values.removeFirst() }
  }

  mutating func forget() { values = [] }

  /// Change per step as `numerator / denominator`, denominator above 0; nil with fewer than 3 values.
  var slope: (numerator: Int64, denominator: Int64)? {
    guard values.count >= Self.countMin else { return nil }
    let n = Int64(values.count)
    var (sumX, sumY, sumXY, sumXX) = (Int64(0), Int64(0), Int64(0), Int64(0))
    for (index, value) in values.enumerated() {
      let (x, y) = (Int64(index), Int64(value))
      sumX += x
      sumY += y
      sumXY += x * y
      sumXX += x * x
    }
    // At most 8 · 28 · 2^40 · 8: below 2^51.
    return (n * sumXY - sumX * sumY, n * sumXX - sumX * sumX)
  }

  /// The line's value `steps` after the last one, at least 0; nil with fewer than 3 values.
  func forecast(steps: Int64 = 1) -> UInt64? {
    guard let slope else { return nil }
    let n = Int64(values.count)
    let sumY = values.reduce(Int64(0)) { $0 + Int64($1) }
    // mean(y) + slope · (n − 1 + steps − mean(x)), everything over 2 · n · denominator.
    let distance = 2 * (n - 1 + steps) - (n - 1)
    let value =
      sumY / n + slope.numerator / slope.denominator * distance / 2
      + slope.numerator % slope.denominator * distance / (2 * slope.denominator)
    return UInt64(max(value, 0))
  }
}
