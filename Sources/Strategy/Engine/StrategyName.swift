/// A strategy's name, as users and records know it. There is one only where the program has the strategy: Godwit's own,
/// and those that a program built on it added (`StrategyCatalog`).
public struct StrategyName: RawRepresentable, Sendable, Hashable, CaseIterable, Codable {
  public let rawValue: String

  /// Nil: there is no such strategy.
  public init?(rawValue: String) {
    guard let name = Self.allCases.first(where: { $0.rawValue == rawValue }) else { return nil }
    self = name
  }

  /// For the catalogue.
  init(_ rawValue: String) { self.rawValue = rawValue }

  /// Rounds over what the guest dirtied, and a fixed downtime limit: the baseline.
  public static let precopy = StrategyName("precopy")
  /// Pages that keep getting dirty wait until they cool or the guest stops (Jain 2021).
  public static let hotpages = StrategyName("hotpages")
  /// Regression over the working set's history sets the downtime limit (Piao et al. 2014).
  public static let adaptive = StrategyName("adaptive")
  /// One scan and a stream of re-dirtied pages beside it; ends with the scan (TLM).
  public static let timebound = StrategyName("timebound")
  /// One copy pass, then invalidations only; the guest moves and pulls (Daradkeh 2015).
  public static let dsm = StrategyName("dsm")
  /// Chooses among the others from the forecast and the constraints.
  public static let auto = StrategyName("auto")
  /// Rival: the downtime limit rises in steps (KubeVirt).
  public static let ramp = StrategyName("ramp")
  /// Rival: switches over at a local minimum once the migration stalls (KubeVirt).
  public static let stall = StrategyName("stall")

  /// Godwit's own.
  static let own = [precopy, hotpages, adaptive, timebound, dsm, auto, ramp, stall]

  /// Godwit's own first, then the others in the order in which they were added.
  public static var allCases: [StrategyName] { own + StrategyCatalog.added }
}

extension StrategyName: CustomStringConvertible {
  public var description: String { rawValue }
}
