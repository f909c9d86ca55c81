/// An axis from zero to a round number, with round ticks between. Pure.
struct PlotScale: Equatable {
  let high: Double
  let ticks: [Double]

  /// - Parameter values: what has to fit; those that are not finite are left out.
  init(_ values: some Sequence<Double>, tickCount: Int = 5) {
    let most = values.filter(\.isFinite).max() ?? 0
    guard most > 0 else {
      (high, ticks) = (1, [0, 1])
      return
    }
    let step = Self.roundStep(most / Double(max(tickCount, 1)))
    let count = Int((most / step).rounded(.up))
    high = step * Double(count)
    ticks = (0...count).map { step * Double($0) }
  }

  /// Where a value lies on an axis of that length; the end for what is beyond.
  func place(_ value: Double, on length: Double) -> Double {
    max(min(value / high, 1), 0) * length
  }

  /// The next of 1, 2, 2.5 and 5 times a power of ten.
  private static func roundStep(_ least: Double) -> Double {
    var power = 1.0
    while power * 10 <= least { power *= 10 }
    while power > least { power /= 10 }
    return [1, 2, 2.5, 5, 10].lazy.map { $0 * power }.first { $0 >= least } ?? power * 10
  }
}
