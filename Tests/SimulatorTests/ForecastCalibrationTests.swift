import Base
import Testing

@testable import Simulator

@Suite struct ForecastCalibrationTests {
  /// About normal: of twelve evenly spread numbers.
  private func ratio(_ random: inout SplitMix64, around center: Double, by spread: Double) -> Double
  {
    let sum = (0..<12).reduce(0.0) { sum, _ in sum + Double.random(in: -0.5...0.5, using: &random) }
    return center * (1 + sum * spread)
  }

  /// Whatever the hosts are like, the band holds nine tenths of the next outcomes, and the median is right.
  @Test(arguments: [(1.0, 0.05), (1.25, 0.1), (0.8, 0.2)])
  func bandsHoldTheirShare(center: Double, spread: Double) {
    var random = SplitMix64(seed: 5)
    var (within, medians) = (0, 0.0)
    for _ in 0..<400 {
      let past = (0..<60).map { _ in ratio(&random, around: center, by: spread) }
      let calibration = ForecastCalibration(past)
      let next = ratio(&random, around: center, by: spread)
      if (calibration.low...calibration.high).contains(next) { within += 1 }
      medians += calibration.median / 400
    }
    #expect((350...395).contains(within), "\(within) of 400")
    #expect(abs(medians / center - 1) < 0.02)
  }

  @Test func withNothingKnownTheBandIsWide() {
    let none = ForecastCalibration([])
    #expect(none.count == 0 && none.low == 0.85 && none.high == 1.5)
    let few = ForecastCalibration([1.3, 1.3, 1.3, 1.3, .nan, -1, 0, .infinity])
    #expect(few.count == 4 && few.median > none.median && few.high == 1.5)
    // Enough of one's own: nothing is assumed any more.
    let many = ForecastCalibration(Array(repeating: 1.3, count: 20))
    #expect(many.low == 1.3 && many.median == 1.3 && many.high == 1.3)
    #expect(ForecastCalibration(Array(repeating: 1, count: 1000)).count == 200)
  }

  @Test func theSimulatedRunsStayWithinTheBand() throws {
    let exact = ForecastCalibration(Array(repeating: 1.2, count: 20))
    let band = exact.apply(to: .init(low: 800, median: 1000, high: 1500))
    #expect((band.low, band.median, band.high) == (960, 1200, 1800))
    let wide = ForecastCalibration([]).apply(to: .init(low: 990, median: 1000, high: 1010))
    #expect(wide.low == 850 && wide.high == 1500)
  }
}
