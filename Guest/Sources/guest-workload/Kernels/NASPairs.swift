import Glibc

/// EP: pairs of uniform numbers in the square become Gaussian ones by the polar method; the sums of both
/// coordinates are published.
struct NASPairs {
  /// Pairs that are tried: a power of two.
  let count: Int
  let expected: (x: Double, y: Double)

  init(_ size: NASClass) {
    switch size {
    case .s: (count, expected) = (1 << 24, (-3.247834652034740e+3, -6.958407078382297e+3))
    case .w: (count, expected) = (1 << 25, (-2.863319731645753e+3, -6.320053679109499e+3))
    case .a: (count, expected) = (1 << 28, (-4.295875165629892e+3, -1.580732573678431e+4))
    }
  }

  func run(progress: (Int) -> Void) -> NASVerdict {
    var random = NASRandom(seed: 271_828_183)
    var (sumX, sumY) = (0.0, 0.0)
    var left = count
    while left > 0 {
      let part = min(left, 4096)
      // Sums of parts: what is added to a large number loses digits.
      var (partX, partY) = (0.0, 0.0)
      for _ in 0..<part {
        let x = 2 * random.next() - 1
        let y = 2 * random.next() - 1
        let square = x * x + y * y
        guard square <= 1 else { continue }
        let factor = (-2 * log(square) / square).squareRoot()
        partX += x * factor
        partY += y * factor
      }
      sumX += partX
      sumY += partY
      left -= part
      progress(part)
    }
    let first = NASVerdict("sum of x", sumX, expected: expected.x, within: 1e-8)
    let second = NASVerdict("sum of y", sumY, expected: expected.y, within: 1e-8)
    return NASVerdict(
      isVerified: first.isVerified && second.isVerified, text: "\(first.text); \(second.text)")
  }
}
