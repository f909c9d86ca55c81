import Testing

@testable import GuestKernels

@Suite struct NASKernelTests {
  /// The whole kernels, as guests run them, at the smallest class: the published results hold every step of them.
  @Test(arguments: NASKernel.allCases) func theSmallestClassGivesThePublishedResult(
    kernel: NASKernel
  ) {
    var steps = 0
    let verdict = kernel.run(.s) { steps += $0 }
    #expect(verdict.isVerified, "\(kernel.rawValue): \(verdict.text)")
    #expect(steps > 500_000)
  }

  /// The first products of the definition, by hand.
  @Test func randomNumbers() {
    var random = NASRandom()
    let first = UInt64(314_159_265) * 1_220_703_125 % (1 << 46)
    #expect(random.next() == Double(first) / 70_368_744_177_664)
    let second = first.multipliedFullWidth(by: 1_220_703_125).low % (1 << 46)
    #expect(random.next() == Double(second) / 70_368_744_177_664)
  }

  @Test func whatIsSlightlyWrongIsNotVerified() {
    #expect(NASVerdict("x", 2 + 1e-10, expected: 2, within: 1e-8).isVerified)
    #expect(!NASVerdict("x", 2 + 1e-7, expected: 2, within: 1e-8).isVerified)
    #expect(!NASVerdict("x", -2, expected: 2, within: 1e-8).isVerified)
    #expect(!NASVerdict("x", .nan, expected: 2, within: 1e-8).isVerified)
  }
}

@Suite struct NASPartsTests {
  /// A wave becomes one number, and the way back gives it again, times the number of points.
  @Test(arguments: [2, 8, 64]) func transforms(length: Int) {
    let forward = NASTransform(length: length, isForward: true)
    let back = NASTransform(length: length, isForward: false)
    var random = NASRandom()
    let values = (0..<length).map { _ in random.next() }
    func ordered(_ values: [Double], _ plan: NASTransform) -> [Double] {
      plan.reversed.map { values[$0] }
    }
    var (real, imaginary) = (ordered(values, forward), forward.empty)
    forward.run(&real, &imaginary)
    #expect(abs(real[0] - values.reduce(0, +)) < 1e-12)
    (real, imaginary) = (ordered(real, back), ordered(imaginary, back))
    back.run(&real, &imaginary)
    for (found, value) in zip(real, values) {
      #expect(abs(found - value * Double(length)) < 1e-10)
    }
    #expect(imaginary.allSatisfy { abs($0) < 1e-10 })
  }

  /// A constant grid stays one on the way down and up, where the weights are those of means.
  @Test func gridsKeepConstants() {
    var grid = NASGrid(size: 8)
    for index in grid.values.indices { grid.values[index] = 1 }
    let coarse = grid.restricted { _ in }
    // Half the mean: 0.5 + 6/4 + 12/8 + 8/16.
    #expect(coarse.values.allSatisfy { $0 == 4 })
    var fine = NASGrid(size: 8)
    fine.addInterpolated(coarse) { _ in }
    #expect(fine.values.allSatisfy { $0 == 4 })
  }

  @Test func theMatrixIsSymmetric() {
    var random = NASRandom()
    let matrix = NASMatrix(count: 60, nonzeros: 3, shift: 10, random: &random)
    var dense = [[Double]](repeating: Array(repeating: 0, count: 60), count: 60)
    for row in 0..<60 {
      for entry in matrix.rowStarts[row]..<matrix.rowStarts[row + 1] {
        dense[row][Int(matrix.columns[entry])] = matrix.values[entry]
      }
    }
    for row in 0..<60 {
      for column in 0..<row { #expect(abs(dense[row][column] - dense[column][row]) < 1e-15) }
    }
    var product = [Double](repeating: 0, count: 60)
    matrix.multiply(Array(repeating: 1, count: 60), into: &product) { _ in }
    #expect(abs(product[7] - dense[7].reduce(0, +)) < 1e-12)
  }
}
