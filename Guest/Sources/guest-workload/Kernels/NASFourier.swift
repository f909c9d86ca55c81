import Glibc

/// FT: a heat equation on a periodic box, solved by one transform forwards and one back for each of six times.
/// A checksum over 1024 points at each time is published.
struct NASFourier {
  static let alpha = 1e-6
  static let checksumPoints = 1024

  /// Points along each axis, powers of two; the first runs fastest.
  let size: [Int]
  /// Real and imaginary part at each time.
  let expected: [(Double, Double)]

  init(_ size: NASClass) {
    switch size {
    case .s:
      self.size = [64, 64, 64]
      expected = [
        (5.546087004964e+02, 4.845363331978e+02), (5.546385409189e+02, 4.865304269511e+02),
        (5.546148406171e+02, 4.883910722336e+02), (5.545423607415e+02, 4.901273169046e+02),
        (5.544255039624e+02, 4.917475857993e+02), (5.542683411902e+02, 4.932597244941e+02),
      ]
    case .w:
      self.size = [128, 128, 32]
      expected = [
        (5.673612178944e+02, 5.293246849175e+02), (5.631436885271e+02, 5.282149986629e+02),
        (5.594024089970e+02, 5.270996558037e+02), (5.560698047020e+02, 5.260027904925e+02),
        (5.530898991250e+02, 5.249400845633e+02), (5.504159734538e+02, 5.239212247086e+02),
      ]
    case .a:
      self.size = [256, 256, 128]
      expected = [
        (5.046735008193e+02, 5.114047905510e+02), (5.059412319734e+02, 5.098809666433e+02),
        (5.069376896287e+02, 5.098144042213e+02), (5.077892868474e+02, 5.101336130759e+02),
        (5.085233095391e+02, 5.104914655194e+02), (5.091487099959e+02, 5.107917842803e+02),
      ]
    }
  }

  private var count: Int { size[0] * size[1] * size[2] }

  func run(progress: (Int) -> Void) -> NASVerdict {
    var random = NASRandom()
    var box = NASBox(size: size)
    for index in 0..<count {
      box.real[index] = random.next()
      box.imaginary[index] = random.next()
      if index & 4095 == 4095 { progress(4096) }
    }
    box.transform(isForward: true, progress)
    let decays = size.map(Self.decay)
    for (time, value) in expected.enumerated() {
      box.scale(decays, progress)
      var state = box
      state.transform(isForward: false, progress)
      let (real, imaginary) = checksum(state)
      let error = hypot(real - value.0, imaginary - value.1) / hypot(value.0, value.1)
      if !(error <= 1e-12) {
        return NASVerdict(
          isVerified: false,
          text: "checksum (\(real), \(imaginary)) at time \(time + 1), published \(value)")
      }
    }
    return NASVerdict(isVerified: true, text: "\(expected.count) checksums")
  }

  /// By what the waves along an axis decay from one time to the next.
  private static func decay(_ length: Int) -> [Double] {
    (0..<length).map { index in
      let wave = Double(index < length / 2 ? index : index - length)
      return exp(-4 * alpha * Double.pi * Double.pi * wave * wave)
    }
  }

  private func checksum(_ box: NASBox) -> (Double, Double) {
    var (real, imaginary) = (0.0, 0.0)
    for point in 1...Self.checksumPoints {
      let (x, y, z) = (point % size[0], 3 * point % size[1], 5 * point % size[2])
      let index = x + size[0] * (y + size[1] * z)
      real += box.real[index]
      imaginary += box.imaginary[index]
    }
    return (real / Double(count), imaginary / Double(count))
  }
}

/// Complex numbers on a box, and their Fourier transform along all axes.
struct NASBox {
  let size: [Int]
  var real, imaginary: [Double]

  init(size: [Int]) {
    self.size = size
    real = Array(repeating: 0, count: size.reduce(1, *))
    imaginary = real
  }

  /// Multiplies each point with a factor of each of its coordinates.
  mutating func scale(_ factors: [[Double]], _ progress: (Int) -> Void) {
    var index = 0
    for z in 0..<size[2] {
      for y in 0..<size[1] {
        let row = factors[2][z] * factors[1][y]
        for x in 0..<size[0] {
          let factor = row * factors[0][x]
          real[index] *= factor
          imaginary[index] *= factor
          index += 1
        }
      }
      progress(size[0] * size[1])
    }
  }

  /// Not divided by the number of points, in either direction.
  mutating func transform(isForward: Bool, _ progress: (Int) -> Void) {
    for axis in isForward ? [0, 1, 2] : [2, 1, 0] {
      let plan = NASTransform(length: size[axis], isForward: isForward)
      let step = size[..<axis].reduce(1, *)
      var (lineReal, lineImaginary) = (plan.empty, plan.empty)
      for line in 0..<real.count / plan.length {
        // Lines along an axis begin at the points whose coordinate there is 0.
        let start = line / step * step * plan.length + line % step
        for index in 0..<plan.length {
          let place = plan.reversed[index]
          lineReal[place] = real[start + index * step]
          lineImaginary[place] = imaginary[start + index * step]
        }
        plan.run(&lineReal, &lineImaginary)
        for index in 0..<plan.length {
          real[start + index * step] = lineReal[index]
          imaginary[start + index * step] = lineImaginary[index]
        }
        progress(plan.length)
      }
    }
  }
}

/// A Fourier transform of one length, in place, by halves (Cooley and Tukey).
struct NASTransform {
  let length: Int
  /// Where each input has to stand: its index with the bits in reverse.
  let reversed: [Int]
  /// Roots of unity, half a turn of them.
  private let cosines, sines: [Double]

  /// - Parameter length: a power of two, at least 2.
  init(length: Int, isForward: Bool) {
    self.length = length
    let bits = length.trailingZeroBitCount
    reversed = (0..<length).map { index in
      (0..<bits).reduce(0) { $0 << 1 | index >> $1 & 1 }
    }
    let turn = (isForward ? -2 : 2) * Double.pi / Double(length)
    cosines = (0..<length / 2).map { cos(turn * Double($0)) }
    sines = (0..<length / 2).map { sin(turn * Double($0)) }
  }

  var empty: [Double] { Array(repeating: 0, count: length) }

  func run(_ real: inout [Double], _ imaginary: inout [Double]) {
    var half = 1
    while half < length {
      let step = length / (2 * half)
      var start = 0
      while start < length {
        for offset in 0..<half {
          let (cosine, sine) = (cosines[offset * step], sines[offset * step])
          let (low, high) = (start + offset, start + offset + half)
          let turnedReal = cosine * real[high] - sine * imaginary[high]
          let turnedImaginary = cosine * imaginary[high] + sine * real[high]
          real[high] = real[low] - turnedReal
          imaginary[high] = imaginary[low] - turnedImaginary
          real[low] += turnedReal
          imaginary[low] += turnedImaginary
        }
        start += 2 * half
      }
      half *= 2
    }
  }
}
