/// The few functions that models need, the same to the last bit on every machine: a seed replays anywhere,
/// which a C library's `exp` and `log` don't promise.
enum Mathematics {
  private static let ln2 = 0.693_147_180_559_945_3

  /// e^−x, for x ≥ 0.
  static func decay(_ x: Double) -> Double {
    guard x > 0 else { return 1 }
    guard x < 700 else { return 0 }
    let halvings = (x / ln2).rounded()
    let rest = -(x - halvings * ln2)  // |rest| ≤ ln2 / 2
    var (term, sum) = (1.0, 1.0)
    for n in 1...14 {
      term *= rest / Double(n)
      sum += term
    }
    return Double(sign: .plus, exponent: -Int(halvings), significand: 1) * sum
  }

  /// Natural logarithm, for x > 0.
  static func log(_ x: Double) -> Double {
    let (exponent, significand) = (Double(x.exponent), x.significand)  // significand in 1..<2
    let ratio = (significand - 1) / (significand + 1)  // 0 ..< 1/3
    let square = ratio * ratio
    var (term, sum) = (ratio, ratio)
    for n in 1...22 {
      term *= square
      sum += term / Double(2 * n + 1)
    }
    return exponent * ln2 + 2 * sum
  }

  /// x^y, for x > 0.
  static func power(_ x: Double, _ y: Double) -> Double {
    let exponent = y * log(x)
    return exponent <= 0 ? decay(-exponent) : 1 / decay(exponent)
  }
}
