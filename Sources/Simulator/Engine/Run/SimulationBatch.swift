public import Strategy

/// Many runs of one setup, from seeds that replay, and what they say together.
public struct SimulationBatch: Sendable, Equatable {
  /// A median with the band that holds nine tenths of the runs.
  public struct Band: Sendable, Equatable {
    public let low, median, high: Double

    /// nil without values.
    public init?(_ values: [Double]) {
      guard !values.isEmpty else { return nil }
      let sorted = values.sorted()
      low = Self.quantile(sorted, 0.05)
      median = Self.quantile(sorted, 0.5)
      high = Self.quantile(sorted, 0.95)
    }

    init(low: Double, median: Double, high: Double) {
      (self.low, self.median, self.high) = (low, median, high)
    }

    /// Between the two values next to the place, `sorted` not empty.
    static func quantile(_ sorted: [Double], _ share: Double) -> Double {
      let place = share * Double(sorted.count - 1)
      let below = Int(place)
      let above = min(below + 1, sorted.count - 1)
      return sorted[below] + (sorted[above] - sorted[below]) * (place - Double(below))
    }
  }

  /// A run that broke a rule.
  public struct Violation: Sendable, Equatable {
    public let seed: UInt64
    public let what: String
  }

  public let setup: SimulationSetup
  public let outcomes: [SimulationOutcome]
  public let firstSeed: UInt64

  /// Runs seeds `seed`, `seed + 1`, ….
  public init(_ setup: SimulationSetup, runs: Int, seed: UInt64) {
    self.setup = setup
    firstSeed = seed
    outcomes = (0..<max(runs, 0)).map { Simulation.run(setup, seed: seed &+ UInt64($0)) }
  }

  /// The runs that the bands are of.
  public var completed: [SimulationOutcome] { outcomes.filter(\.isCompleted) }

  public var totalMs: Band? { Band(completed.map(\.totalMs)) }
  public var downtimeMs: Band? { Band(completed.compactMap(\.downtimeMs)) }
  public var wireBytes: Band? { Band(completed.map(\.wireBytes)) }
  public var slowdown: Band? { Band(completed.map(\.slowdown)) }
  public var lostMs: Band? { Band(completed.map(\.lostMs)) }
  public var epochs: Band? { Band(completed.map { Double($0.epochs) }) }

  /// Error of the pause's forecast as a share of the pause.
  public var downtimeError: Band? {
    Band(
      completed.compactMap { outcome in
        guard let actual = outcome.downtimeMs, let forecast = outcome.forecastDowntimeMs else {
          return nil
        }
        return (forecast - actual) / max(actual, 1)
      })
  }

  /// Share of the runs that ended with the guest at the destination, its pause within the downtime limit,
  /// and in time.
  public var meetsConstraints: Double {
    guard !outcomes.isEmpty else { return 0 }
    let limits = setup.constraints
    let met = outcomes.count { outcome in
      guard outcome.isCompleted, let moved = outcome.movedMs, let pause = outcome.downtimeMs else {
        return false
      }
      return pause <= Double(limits.downtimeLimitMs)
        && moved <= limits.withinMs.map { Double($0) } ?? .infinity
    }
    return Double(met) / Double(outcomes.count)
  }

  /// The strategy that decided last in most runs.
  public var acting: StrategyName {
    let names = StrategyName.allCases.map { name in (name, outcomes.count { $0.acting == name }) }
    return names.max { $0.1 < $1.1 }?.0 ?? setup.strategy
  }

  /// Rules that runs broke, by rising seed; there should be none.
  public var violations: [Violation] {
    outcomes.enumerated().compactMap { index, outcome in
      outcome.violation.map { Violation(seed: firstSeed &+ UInt64(index), what: $0) }
    }
  }
}

extension SimulationBatch {
  /// Why nothing would be started, or nil.
  public var refusal: String? {
    if case .refused(let why)? = outcomes.first?.end { why } else { nil }
  }
}
