import Agent
import ArgumentParser
import Base
import Simulator

struct SimulateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate", abstract: "Run Godwit's own decisions in a simulated world.",
    subcommands: [
      SimulateRunCommand.self, SimulateFleetCommand.self, SimulateForecastCommand.self,
      SimulateCheckCommand.self, SimulateDiskCommand.self, SimulateCommitCommand.self,
    ])
}

struct SimulateCommitCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "commit", abstract: "Look for a crash that the commit protocol does not survive.",
    discussion: """
      Visits every state that the two agents, the two QEMUs, their journals and connections can reach \
      with this many crashes of agents, and one of each other fault: a QEMU that dies, a connection \
      that breaks, a journal that can't be written, a QEMU that refuses a command, a cancellation, and a \
      person who decides with godwit recover, having looked whether what it warns of is so. \
      Once for a guest that moves with its memory, once for one whose last pages follow it. Then makes random runs with many more. The agents' decisions are the very code of godwit agent. \
      Checked: never two running guests, never none without cause, no page let go of that a guest lacks, \
      nothing left behind, and an end. \
      Exit status 1 when something is found; what led there is printed step by step.
      """)

  @Option(help: ArgumentHelp("Crashes of agents to explore, 0 to 4.", valueName: "number"))
  var crashes: UInt8 = 2
  @Option(help: ArgumentHelp("Seed of the first random run.", valueName: "number"))
  var seed: UInt64 = 1
  @Option(help: ArgumentHelp("Random runs; each has a seed of its own.", valueName: "number"))
  var runs = 1000
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard crashes <= 4 else { throw ValidationError("--crashes takes 0 to 4, not \(crashes)") }
    guard (0...10_000_000).contains(runs) else {
      throw ValidationError("--runs takes 0 to 10000000, not \(runs)")
    }
  }

  func run() async throws {
    let budget = FaultBudget(crashes: crashes, others: 1)
    let explored = CommitExplorer(budget: budget).explore()
    let pulling =
      explored.counterexample == nil
      ? CommitExplorer(budget: budget, pulls: true).explore() : CommitReport()
    let loud = FaultBudget(
      crashes: 8, cuts: 8, failedWrites: 4, refusals: 4, cancels: 1, forgets: 1, others: 1)
    let ran =
      explored.counterexample == nil && pulling.counterexample == nil
      ? CommitRuns(budget: loud).run(seed: seed, count: runs) : CommitReport()
    if output.json {
      try Output.json(Answer(crashes: crashes, seed: seed, runs: runs, explored, pulling, ran))
    } else {
      Self.lines(explored, pulling, ran, seed: seed, runs: runs).forEach(Output.line)
    }
    guard [explored, pulling, ran].allSatisfy({ $0.counterexample == nil }) else {
      throw ExitStatus.failed.exitCode
    }
  }

  static func lines(
    _ explored: CommitReport, _ pulling: CommitReport, _ ran: CommitReport, seed: UInt64, runs: Int
  ) -> [String] {
    var lines = ["a guest that moves with its memory:"] + Self.lines(explored)
    if let found = explored.counterexample { return lines + story(found) }
    lines += ["a guest whose last pages follow it:"] + Self.lines(pulling)
    if let found = pulling.counterexample { return lines + story(found) }
    guard runs > 0 else { return lines + ["nothing found"] }
    let last = seed &+ UInt64(max(runs - 1, 0))
    lines.append(
      "random runs, seeds \(seed) to \(last): "
        + "\(RecordReport.grouped(UInt64(ran.transitionCount))) steps")
    lines.append("ends: \(ends(ran))")
    return lines + (ran.counterexample.map(story) ?? ["nothing found"])
  }

  private static func lines(_ explored: CommitReport) -> [String] {
    [
      "\(RecordReport.grouped(UInt64(explored.stateCount))) states, "
        + "\(RecordReport.grouped(UInt64(explored.transitionCount))) steps between them"
        + (explored.isComplete ? ": all there are" : "; there are more"),
      "ends: \(ends(explored))",
    ]
  }

  private static func ends(_ report: CommitReport) -> String {
    "\(report.settledAtSource) at the source, \(report.settledAtDestination) at the destination, "
      + "\(report.settledNowhere) with the guest's QEMU dead; "
      + "\(report.needsHumanCount) of them ask a person"
  }

  private static func story(_ found: CommitReport.Counterexample) -> [String] {
    ["FOUND: \(found.violation)"] + found.steps.enumerated().map { "  \($0 + 1). \($1)" }
  }
}

extension SimulateCommitCommand {
  struct Answer: Encodable {
    struct Ends: Encodable {
      let states: Int
      let transitions: Int
      let atSource: Int
      let atDestination: Int
      let nowhere: Int
      let needsHuman: Int

      init(_ report: CommitReport) {
        (states, transitions) = (report.stateCount, report.transitionCount)
        (atSource, atDestination) = (report.settledAtSource, report.settledAtDestination)
        (nowhere, needsHuman) = (report.settledNowhere, report.needsHumanCount)
      }
    }
    let simulation = "commit"
    let crashes: UInt8
    let seed: UInt64
    let runs: Int
    let isComplete: Bool
    let explored: Ends
    let exploredPulling: Ends
    let random: Ends
    @OrNull var violation: String?
    let steps: [String]

    init(
      crashes: UInt8, seed: UInt64, runs: Int, _ explored: CommitReport, _ pulling: CommitReport,
      _ random: CommitReport
    ) {
      (self.crashes, self.seed, self.runs) = (crashes, seed, runs)
      (self.explored, exploredPulling, self.random) = (Ends(explored), Ends(pulling), Ends(random))
      isComplete = explored.isComplete && pulling.isComplete
      let found =
        explored.counterexample ?? pulling.counterexample ?? random.counterexample
      (violation, steps) = (found?.violation, found?.steps ?? [])
    }
  }
}
