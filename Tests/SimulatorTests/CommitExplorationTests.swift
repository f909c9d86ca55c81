import Strategy
import Testing

@testable import Simulator

/// The commit protocol, in every state that a few faults can lead to. `godwit simulate commit` does
/// the same with more of them.
@Suite struct CommitExplorationTests {
  /// Small enough for an unoptimised build: pairs and triples of faults.
  static let budgets: [FaultBudget] = [
    FaultBudget(
      crashes: 0, qemuDeaths: 0, cuts: 0, failedWrites: 0, refusals: 0, cancels: 0, forgets: 0),
    FaultBudget(
      crashes: 2, qemuDeaths: 0, cuts: 0, failedWrites: 0, refusals: 0, cancels: 1, forgets: 1),
    FaultBudget(
      crashes: 1, qemuDeaths: 1, cuts: 0, failedWrites: 0, refusals: 0, cancels: 0, forgets: 0),
    FaultBudget(
      crashes: 1, qemuDeaths: 0, cuts: 1, failedWrites: 0, refusals: 0, cancels: 0, forgets: 1),
    FaultBudget(
      crashes: 1, qemuDeaths: 0, cuts: 0, failedWrites: 1, refusals: 0, cancels: 0, forgets: 0),
    FaultBudget(
      crashes: 1, qemuDeaths: 0, cuts: 0, failedWrites: 0, refusals: 1, cancels: 0, forgets: 0),
    FaultBudget(
      crashes: 1, qemuDeaths: 2, cuts: 0, failedWrites: 0, refusals: 0, cancels: 0, forgets: 1,
      decisions: 2),
    FaultBudget(
      crashes: 1, qemuDeaths: 0, cuts: 0, failedWrites: 1, refusals: 0, cancels: 1, forgets: 0,
      others: 1),
  ]

  @Test(arguments: budgets, [false, true])
  func everyStateIsSafeAndLeadsToAnEnd(budget: FaultBudget, pulls: Bool) {
    let report = CommitExplorer(budget: budget, pulls: pulls).explore()
    #expect(report.counterexample == nil, "\(Self.story(report))")
    #expect(report.isComplete)
    #expect(report.stateCount > 30)
    #expect(report.settledAtDestination > 0)
    let hasFaults = budget != Self.budgets[0]
    #expect((report.settledAtSource > 0) == hasFaults)
  }

  /// A protocol that is broken on purpose is found out: the checkers check something.
  @Test(arguments: CommitMutation.allCases) func brokenProtocolsAreFound(mutation: CommitMutation) {
    let budget = FaultBudget(
      crashes: 1, qemuDeaths: 0, cuts: 0, failedWrites: 1, refusals: 0, cancels: 0, forgets: 1,
      others: mutation == .rollbackRunsAnyGuest ? 1 : 0)
    let pulls = mutation == .sourceRetiresAtOnce
    let report = CommitExplorer(budget: budget, pulls: pulls, mutation: mutation).explore()
    // A source that journals nothing asks a person for want of anything better: needlessly, and so it is found.
    let isNamed = report.counterexample?.violation.hasPrefix("I")
    #expect(isNamed == (mutation != .sourceJournalsNothing), "\(mutation)")
    #expect((report.counterexample?.steps.count ?? 0) >= 5)
    let sound = CommitExplorer(budget: budget, pulls: pulls).explore()
    #expect(sound.counterexample == nil)
  }

  /// What `godwit recover` warns of is what makes a decision safe; without a look it isn't.
  @Test func personWhoHasLookedIsSafe() {
    let budget = FaultBudget(
      crashes: 1, qemuDeaths: 1, cuts: 0, failedWrites: 0, refusals: 2, cancels: 0, forgets: 1)
    let looked = CommitExplorer(budget: budget).explore()
    #expect(looked.counterexample == nil, "\(Self.story(looked))")
    var undecided = budget
    undecided.decisions = 0
    let before = CommitExplorer(budget: undecided).explore()
    #expect(before.stateCount < looked.stateCount)
    #expect(before.needsHumanCount > 0)
    let guessed = CommitExplorer(budget: budget, mutation: .personGuesses).explore()
    #expect(guessed.counterexample?.steps.contains { $0.hasPrefix("person: decides") } == true)
  }

  @Test func boundOnStatesIsKeptAndTold() {
    let report = CommitExplorer(budget: FaultBudget(), statesMax: 500).explore()
    #expect(!report.isComplete)
    #expect((500..<600).contains(report.stateCount))
  }

  @Test func randomRunsWithManyFaultsEndSettled() {
    let budget = FaultBudget(crashes: 8, cuts: 8, failedWrites: 4, refusals: 4)
    let report = CommitRuns(budget: budget).run(seed: 1, count: 200)
    #expect(report.counterexample == nil, "\(Self.story(report))")
    #expect(report.settledAtSource + report.settledAtDestination + report.settledNowhere == 200)
  }

  @Test func sameSeedGivesTheSameRun() {
    let runs = CommitRuns(budget: FaultBudget())
    let (first, second) = (runs.run(seed: 7, count: 5), runs.run(seed: 7, count: 5))
    #expect(first.transitionCount == second.transitionCount)
    #expect(first.settledAtDestination == second.settledAtDestination)
  }

  private static func story(_ report: CommitReport) -> String {
    guard let found = report.counterexample else { return "" }
    return ([found.violation] + found.steps).joined(separator: "\n")
  }
}
