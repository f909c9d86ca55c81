import Base

/// Long random runs with many more faults than an exploration can hold, from seeds that replay.
public struct CommitRuns {
  /// Steps with faults, then as many without in which everything must settle.
  static let stepsMax = 400
  let budget: FaultBudget
  let mutation: CommitMutation?

  /// - Parameters:
  ///   - budget: how many faults of each kind a run may have.
  ///   - mutation: a way to break the protocol, which the runs have to find; nil: the protocol as
  ///     it is.
  public init(budget: FaultBudget, mutation: CommitMutation? = nil) {
    (self.budget, self.mutation) = (budget, mutation)
  }

  /// Runs seeds `seed`, `seed + 1`, …; ends at the first that breaks something.
  public func run(seed: UInt64, count: Int) -> CommitReport {
    var report = CommitReport()
    for offset in 0..<max(count, 0) {
      let seed = seed &+ UInt64(offset)
      if let counterexample = run(seed: seed, &report) {
        report.counterexample = counterexample
        break
      }
    }
    return report
  }

  private func run(seed: UInt64, _ report: inout CommitReport) -> CommitReport.Counterexample? {
    var random = SplitMix64(seed: seed)
    // Every other guest moves before its memory.
    var world = CommitWorld(budget, pulls: seed % 2 == 1)
    var steps: [String] = []
    for step in 0..<Self.stepsMax * 2 {
      report.stateCount += 1
      if let violation = CommitChecks.violation(in: world) {
        return .init("\(violation) (seed \(seed))", steps: steps)
      }
      let all = world.events(mutation)
      let quiet = all.filter { !$0.isFault }
      let loud = all.filter(\.isFault)
      // One step in eight is a fault: often enough to meet, rare enough to get somewhere.
      let isFault = step < Self.stepsMax && !loud.isEmpty && random.next() % 8 == 0
      let choices = isFault ? loud : quiet
      guard !choices.isEmpty else { break }
      let event = choices[Int(random.next() % UInt64(choices.count))]
      report.transitionCount += 1
      steps.append(event.description)
      world = event.next
    }
    report.note(world)
    guard world.isSettled else {
      return .init("not settled long after the last fault (seed \(seed))", steps: steps)
    }
    return nil
  }
}
