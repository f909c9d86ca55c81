import Base
import Strategy

/// Runs one migration after the other on links of their own.
public enum Simulation {
  /// What no strategy may need, in milliseconds: the patience of `DeadlineGuard` and a long pause.
  static func endlessMs(_ setup: SimulationSetup) -> Double {
    3_600_000 + setup.passMs * 40 + Double(setup.constraints.withinMs ?? 0) * 2
  }

  /// One run; the same seed gives the same outcome.
  public static func run(_ setup: SimulationSetup, seed: UInt64) -> SimulationOutcome {
    run(setup, seed: seed, memory: FluidMemory(setup.guest, bytesPerSecond: setup.link.goodput))
  }

  /// One run of a small guest, page by page.
  public static func runExact(_ setup: SimulationSetup, seed: UInt64) -> SimulationOutcome {
    run(setup, seed: seed, memory: ExactMemory(setup.guest, bytesPerSecond: setup.link.goodput))
  }

  static func run(
    _ setup: SimulationSetup, seed: UInt64, memory: some SimulatedMemory
  ) -> SimulationOutcome {
    if let refusal = refusal(setup) {
      return SimulationOutcome(end: .refused(refusal), acting: setup.strategy)
    }
    var run = MigrationRun(setup, memory: memory, seed: seed)
    // The link has a life of its own: the same seed gives every strategy the same one.
    var noise = Noise(seed: seed ^ 0x6C69_6E6B)
    let goodput = setup.link.goodput * noise.factor(setup.linkSpread)
    let shiftMs = noise.uniform() * 100_000
    let endMs = endlessMs(setup)
    while !run.isDone {
      let free = setup.link.freeShare(atMs: run.nowMs, phaseMs: shiftMs)
      let rate = goodput * free * noise.factor(setup.link.jitter)
      run.step(ms: setup.tickMs, bytesPerSecond: rate)
      if run.nowMs > endMs { run.giveUp() }
    }
    return checked(run.outcome, setup)
  }

  /// Why the agent would refuse, from what it measures beforehand.
  static func refusal(_ setup: SimulationSetup) -> String? {
    guard let rate = ByteRate(bytesPerSecond: UInt64(setup.link.goodput)) else { return "no link" }
    return StartForecast(
      setup.strategy, setup.constraints, setup.facts, rate: rate,
      wireBytesPerPage: setup.wireBytesPerPage,
      // Disks that are copied first, and the destination's start, count from the request on.
      elapsedMs: UInt64(min(max(setup.startMs, 0), 1e15))
    ).refusal
  }

  /// The rules for a whole run.
  static func checked(_ outcome: SimulationOutcome, _ setup: SimulationSetup) -> SimulationOutcome {
    var outcome = outcome
    guard outcome.violation == nil else { return outcome }
    if outcome.end == .endless { outcome.violation = "did not end" }
    if let withinMs = setup.constraints.withinMs, let movedMs = outcome.movedMs,
      movedMs > Double(withinMs)
    {
      outcome.violation = "took \(UInt64(movedMs)) ms, more than the \(withinMs) ms of --within"
    }
    return outcome
  }
}
