import Base

/// Many runs of one move, beside the same guests with nothing moving. What a run has lost is in `violations`.
public struct DiskMoveBatch: Sendable {
  public typealias Band = SimulationBatch.Band

  public let runs: Int
  public let ended: Int
  /// Of the runs that ended, nil without any; milliseconds and bytes.
  public let totalMs, pauseMs, readBytes, moveReadBytes, wireBytes: Band?
  /// The guest's requests per second and the 99th percentile of their latency, as parts of the same guest's whose
  /// disk doesn't move.
  public let guestShare, p99Ratio: Band?
  public let violations: [SimulationBatch.Violation]

  /// How long a guest without a move is watched.
  private static let quietMs: UInt64 = 30_000

  /// Runs seeds `seed`, `seed + 1`, …; nil: no disk can have that size.
  ///
  /// - Parameter cuts: breaks of the connection in each run, at random times of the first minute.
  public init?(_ setup: DiskMoveSetup, runs: Int, seed: UInt64, cuts: Int = 0) {
    var (outcomes, shares, ratios): ([DiskMoveOutcome], [Double], [Double]) = ([], [], [])
    var violations: [SimulationBatch.Violation] = []
    for run in 0..<max(runs, 0) {
      let seed = seed &+ UInt64(run)
      var own = setup
      var random = DiskMoveRun.chance(seed)
      for _ in 0..<max(cuts, 0) { own.cutsMs.append(random.next() % 60_000) }
      var quiet = setup
      (quiet.method, quiet.lengthMs) = (nil, Self.quietMs)
      guard let outcome = own.run(seed: seed), let alone = quiet.run(seed: seed) else {
        return nil
      }
      if let what = outcome.violation { violations.append(.init(seed: seed, what: what)) }
      if alone.requestsPerSecond > 0, alone.p99LatencyUs > 0 {
        shares.append(outcome.requestsPerSecond / alone.requestsPerSecond)
        ratios.append(Double(outcome.p99LatencyUs) / Double(alone.p99LatencyUs))
      }
      outcomes.append(outcome)
    }
    let done = outcomes.filter { $0.totalMs != nil }
    (self.runs, ended, self.violations) = (outcomes.count, done.count, violations)
    totalMs = Band(done.compactMap(\.totalMs).map { Double($0) })
    pauseMs = Band(done.map { Double($0.pauseMs) })
    readBytes = Band(done.map { Double($0.readBytes) })
    moveReadBytes = Band(done.map { Double($0.moveReadBytes) })
    wireBytes = Band(done.map { Double($0.wireBytes) })
    (guestShare, p99Ratio) = (Band(shares), Band(ratios))
  }
}

extension DiskMoveRun {
  /// For what a run doesn't draw itself.
  fileprivate static func chance(_ seed: UInt64) -> SplitMix64 { SplitMix64(seed: ~seed) }
}
