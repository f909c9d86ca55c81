/// What earlier forecasts came to, put into new ones. Pure.
///
/// The model knows the guest and the link, and not what else hosts do: processors that are short, memory that is
/// slow to find. What it leaves out shows as the ratio of outcomes to what the model said, and the quantiles of
/// these ratios make a band that holds its share of the outcomes whatever their distribution is (split conformal
/// prediction: Vovk and others 2005; Lei and others 2018), as long as the next move is one like those before.
public struct ForecastCalibration: Sendable, Equatable {
  /// Ratios that are used, the newest.
  public static let countMax = 200
  /// With fewer of one's own the assumed ones count as well.
  static let ownMin = 20
  /// Assumed ones that one of one's own is worth: hosts that take half as long again do so in nearly every move, so the
  /// second of one's own outweighs what was assumed.
  static let ownWeight = 6
  /// Assumed before any are known: wide, and with more room above, for a move is held up more often than it is
  /// helped. Ten moves of two guests in the lab came to 0.82 to 1.65 of what the model had said.
  static let assumed = [0.85, 0.95, 1.0, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5]

  /// Ratios of one's own that it rests on.
  public let count: Int
  /// By which totals are multiplied, and the bounds of nine tenths of the ratios.
  public let median, low, high: Double

  /// - Parameter ratios: of outcomes to what the model said, newest first; those that are no positive
  ///   numbers are left out.
  public init(_ ratios: [Double]) {
    let own = ratios.prefix(Self.countMax).filter { $0.isFinite && $0 > 0 }
    count = own.count
    let weighed = own.flatMap { Array(repeating: $0, count: Self.ownWeight) }
    let all = (own.count < Self.ownMin ? weighed + Self.assumed : Array(own)).sorted()
    median = SimulationBatch.Band.quantile(all, 0.5)
    // The conformal rank: of n + 1 equally likely places, nine tenths in the middle.
    let below = Int((Double(all.count + 1) * 0.05).rounded(.down)) - 1
    (low, high) = (all[max(below, 0)], all[min(all.count - 1 - below, all.count - 1)])
  }

  /// The band with what was learned; never narrower than the simulated runs were apart.
  public func apply(to band: SimulationBatch.Band) -> SimulationBatch.Band {
    SimulationBatch.Band(
      low: min(band.median * low, band.low * median), median: band.median * median,
      high: max(band.median * high, band.high * median))
  }
}
