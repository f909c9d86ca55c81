public import Strategy

/// Looks for a guest, a link or a wish under which a strategy breaks a rule: it doesn't end, is late, slows
/// the guest down more than allowed, asks for two epochs at once, lets progress run backwards, or loses the
/// last version of a page.
public struct SimulationCheck: Sendable, Equatable {
  /// A run that broke a rule; its seed replays it.
  public struct Finding: Sendable, Equatable {
    public let strategy: StrategyName
    public let seed: UInt64
    /// Page by page, or in counts.
    public let isExact: Bool
    public let what: String
  }

  public private(set) var runCount = 0
  public private(set) var findings: [Finding] = []
  /// How the runs ended: at the destination, given up, refused.
  public private(set) var completed = 0
  public private(set) var abandoned = 0
  public private(set) var refused = 0

  /// Runs seeds `seed`, `seed + 1`, … with each strategy; every `exactEvery`th one page by page.
  public init(
    strategies: [StrategyName], runs: Int, seed: UInt64, exactEvery: Int = 20
  ) {
    for offset in 0..<max(runs, 0) {
      let seed = seed &+ UInt64(offset)
      for strategy in strategies {
        let setup = RandomSetups.small(seed: seed, strategy: strategy)
        let isExact = exactEvery > 0 && offset % exactEvery == 0
        let outcome =
          isExact ? Simulation.runExact(setup, seed: seed) : Simulation.run(setup, seed: seed)
        note(outcome)
        if let what = outcome.violation {
          findings.append(Finding(strategy: strategy, seed: seed, isExact: isExact, what: what))
        }
      }
    }
  }

  private mutating func note(_ outcome: SimulationOutcome) {
    runCount += 1
    switch outcome.end {
    case .completed: completed += 1
    case .abandoned: abandoned += 1
    case .refused: refused += 1
    case .endless: break
    }
  }
}
