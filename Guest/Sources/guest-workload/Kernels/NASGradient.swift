/// CG: inverse power iteration on a sparse matrix; each step solves a system by 25 steps of conjugate gradients.
/// The estimate of the eigenvalue after the last step is published.
struct NASGradient {
  static let innerSteps = 25

  let count, nonzeros, steps: Int
  let shift, expected: Double

  init(_ size: NASClass) {
    switch size {
    case .s: (count, nonzeros, steps, shift, expected) = (1400, 7, 15, 10, 8.5971775078648)
    case .w: (count, nonzeros, steps, shift, expected) = (7000, 8, 15, 12, 10.362595087124)
    case .a: (count, nonzeros, steps, shift, expected) = (14000, 11, 15, 20, 17.130235054029)
    }
  }

  func run(progress: (Int) -> Void) -> NASVerdict {
    var random = NASRandom()
    _ = random.next()
    let matrix = NASMatrix(count: count, nonzeros: nonzeros, shift: shift, random: &random)
    var x = [Double](repeating: 1, count: count)
    var zeta = 0.0
    for _ in 0..<steps {
      let z = Self.solve(matrix, x, progress)
      zeta = shift + 1 / Self.dot(x, z)
      let length = Self.dot(z, z).squareRoot()
      for index in x.indices { x[index] = z[index] / length }
    }
    return NASVerdict("zeta", zeta, expected: expected, within: 1e-10)
  }

  /// About the solution of `matrix × z = x`.
  private static func solve(
    _ matrix: NASMatrix, _ x: [Double], _ progress: (Int) -> Void
  ) -> [Double] {
    var z = [Double](repeating: 0, count: x.count)
    var q = z
    var r = x
    var p = x
    var rho = dot(r, r)
    for _ in 0..<innerSteps {
      matrix.multiply(p, into: &q, progress: progress)
      let alpha = rho / dot(p, q)
      for index in z.indices {
        z[index] += alpha * p[index]
        r[index] -= alpha * q[index]
      }
      let before = rho
      rho = dot(r, r)
      let beta = rho / before
      for index in p.indices { p[index] = r[index] + beta * p[index] }
    }
    return z
  }

  private static func dot(_ a: [Double], _ b: [Double]) -> Double {
    var sum = 0.0
    for index in a.indices { sum += a[index] * b[index] }
    return sum
  }
}
