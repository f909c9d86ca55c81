public import Strategy

/// What a migration would be like with each strategy, from a guest's profile and a link. Pure.
public struct MigrationForecast: Sendable, Equatable {
  /// One strategy's prospects; bands hold nine tenths of the runs that end at the destination.
  public struct Row: Sendable, Equatable {
    public var strategy: StrategyName
    /// Who decided last in most runs: for `auto`, what it would take.
    public var acting: StrategyName
    /// Milliseconds, milliseconds, bytes, and a share of working time `0...1`; nil where no run
    /// ended at the destination.
    public var totalMs, downtimeMs, wireBytes, slowdown: SimulationBatch.Band?
    /// Share of the runs that kept every constraint, `0...1`, and that ended at the destination at all.
    public var meets, completes: Double
    /// Why nothing would be started, or nil.
    public var refusal: String?
  }

  public var rows: [Row]
  /// Why `auto` takes what it takes, in words.
  public var reason: String?
  /// What the numbers rest on.
  public var assumptions: [String]

  /// - Parameters:
  ///   - template: guest, link and constraints; its strategy is replaced.
  ///   - spread: how far the guest's writes may be from the model, relative.
  public init(
    _ template: SimulationSetup, strategies: [StrategyName] = StrategyName.allCases, runs: Int = 40,
    seed: UInt64 = 1, spread: Double = 0.1
  ) {
    rows = []
    for strategy in strategies {
      var setup = template
      setup.strategy = strategy
      setup.guestSpread = spread
      let batch = SimulationBatch(setup, runs: runs, seed: seed)
      rows.append(Row(batch))
      if strategy == .auto { reason = Self.reason(batch) }
    }
    assumptions = Self.assumptions(template, spread)
  }

  /// - Parameters:
  ///   - penBytes: memory of the agent's for pages that can't be read from shared memory; nil:
  ///     memory is shared.
  ///   - runs: per strategy, with the seeds from `seed` on.
  public init(
    _ profile: GuestProfile, link: LinkModel, constraints: MigrationConstraints, canPull: Bool,
    penBytes: Double? = SimulationSetup.usualPenBytes,
    strategies: [StrategyName] = StrategyName.allCases, runs: Int = 40, seed: UInt64 = 1
  ) {
    var setup = SimulationSetup(.auto, profile.model, link, constraints)
    (setup.canPull, setup.penBytes) = (canPull, penBytes)
    setup.writePhases = profile.writePhases
    self.init(setup, strategies: strategies, runs: runs, seed: seed, spread: profile.spread)
  }

  private static func reason(_ batch: SimulationBatch) -> String? {
    let reasons = batch.outcomes.filter { $0.acting == batch.acting }.compactMap(\.reason)
    return reasons.first
      ?? (batch.completed.isEmpty ? nil : "after the scan the pause fits the downtime limit")
  }

  private static func assumptions(_ setup: SimulationSetup, _ spread: Double) -> [String] {
    var lines = [
      "the guest goes on writing as it did when it was sampled, within \(Int(spread * 100)) %",
      "the link gives \(Int(setup.link.goodput / 1e6)) MB/s, within \(Int(setup.linkSpread * 100)) %",
      "a pause costs \(setup.pauseOverheadMs) ms beside its pages",
    ]
    if let phases = setup.writePhases, let least = phases.factors.min(),
      let most = phases.factors.max()
    {
      func times(_ factor: Double) -> String { "\((factor * 10).rounded() / 10)" }
      lines.append(
        "now it writes \(times(least)), now \(times(most)) times as much as in the mean, by turns of which nobody knows "
          + "how long they are")
    }
    if setup.penBytes != nil {
      lines.append("pages come with QEMU's stream: no epochs in its first pass")
    }
    if !setup.canPull {
      lines.append("the destination can't run the guest before its memory is there")
    }
    return lines
  }
}

extension MigrationForecast.Row {
  init(_ batch: SimulationBatch) {
    (strategy, acting) = (batch.setup.strategy, batch.acting)
    (totalMs, downtimeMs) = (batch.totalMs, batch.downtimeMs)
    (wireBytes, slowdown) = (batch.wireBytes, batch.slowdown)
    meets = batch.meetsConstraints
    completes = Double(batch.completed.count) / Double(max(batch.outcomes.count, 1))
    if case .refused(let why)? = batch.outcomes.first?.end { refusal = why }
  }
}
