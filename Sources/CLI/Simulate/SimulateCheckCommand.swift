import Agent
import ArgumentParser
import Simulator
import Strategy

struct SimulateCheckCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Look for a guest or a link under which a strategy breaks a rule.",
    discussion: """
      Draws guests, links and constraints from seeds and runs every strategy on them. Checked: every run \
      ends; --within is kept or refused at the start, where the link keeps its rate; the guest is slowed \
      down no more than allowed; no two epochs at once and none too short; progress never runs backwards; \
      each page's last version arrives, for every twentieth seed page by page. Exit status 1 when \
      something is found; its seed shows it again.
      """)

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Strategies to check; without, all of them.", valueName: "name"))
  var strategy: [StrategyName] = []
  @Option(help: ArgumentHelp("Seeds to try, 1 to 10000000.", valueName: "number"))
  var runs = 200
  @Option(help: ArgumentHelp("The first seed.", valueName: "number"))
  var seed: UInt64 = 1
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...10_000_000).contains(runs) else {
      throw ValidationError("--runs takes 1 to 10000000")
    }
  }

  func run() async throws {
    let names = strategy.isEmpty ? StrategyName.allCases : strategy
    let check = SimulationCheck(strategies: names, runs: runs, seed: seed)
    if output.json {
      try Output.json(Answer(check))
    } else {
      Output.line(
        "\(RecordReport.grouped(UInt64(check.runCount))) runs: \(check.completed) ended at the destination, "
          + "\(check.abandoned) were given up, \(check.refused) refused at the start")
      for finding in check.findings.prefix(20) {
        let kind = finding.isExact ? ", page by page" : ""
        Output.line(
          "FOUND: \(finding.strategy.rawValue), seed \(finding.seed)\(kind): \(finding.what)")
      }
      if check.findings.isEmpty { Output.line("nothing found") }
    }
    guard check.findings.isEmpty else { throw ExitStatus.failed.exitCode }
  }

  struct Answer: Encodable {
    struct Finding: Encodable {
      let strategy: String
      let seed: UInt64
      let pageByPage: Bool
      let what: String
    }
    let simulation = "check"
    let runs: Int
    let completed: Int
    let abandoned: Int
    let refused: Int
    let findings: [Finding]

    init(_ check: SimulationCheck) {
      (runs, completed) = (check.runCount, check.completed)
      (abandoned, refused) = (check.abandoned, check.refused)
      findings = check.findings.map {
        Finding(
          strategy: $0.strategy.rawValue, seed: $0.seed, pageByPage: $0.isExact, what: $0.what)
      }
    }

    private enum CodingKeys: CodingKey {
      case simulation, runs, completed, abandoned, refused, findings
    }
  }
}
