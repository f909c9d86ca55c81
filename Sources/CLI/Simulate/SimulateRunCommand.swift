import Agent
import ArgumentParser
import Simulator
import Strategy

struct SimulateRunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Simulate a migration with each strategy.",
    discussion: """
      Runs the strategies of godwit migrate in virtual time, against a model of a guest and of a link, \
      from many seeds, and prints what came out: the median and in brackets the band that holds nine \
      tenths of the runs. Total time and downtime are of the runs that end at the destination. What is \
      modelled and what not is in Docs/simulator.md. Exit status 1 when a run breaks a rule: it doesn't \
      end, is later than --within, slows the guest down more than allowed, or loses a page.
      """)

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Strategies to compare; without, all of them.", valueName: "name"))
  var strategy: [StrategyName] = []
  @OptionGroup(title: "Guest") var guest: GuestOptions
  @OptionGroup(title: "Link") var link: LinkOptions
  @OptionGroup(title: "Constraints") var wishes: ConstraintOptions
  @Flag(help: "The destination can run the guest before its memory is there.")
  var pull = false
  @Flag(
    help:
      "QEMU's stream is read at 1 GB/s as a dirty log only, and pages from the guest's memory where it lies."
  )
  var shared = false
  @Option(help: ArgumentHelp("Runs of each strategy, 1 to 1000000.", valueName: "number"))
  var runs = 100
  @Option(help: ArgumentHelp("Seed of the first run.", valueName: "number"))
  var seed: UInt64 = 1
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...1_000_000).contains(runs) else { throw ValidationError("--runs takes 1 to 1000000") }
  }

  func run() async throws {
    var template = SimulationSetup(.auto, try guest.model(), link.model, wishes.constraints)
    template.canPull = pull
    template.penBytes = shared ? nil : SimulationSetup.usualPenBytes
    var table = SimulationReport.table
    var violations: [String] = []
    for name in strategy.isEmpty ? StrategyName.allCases : strategy {
      template.strategy = name
      let batch = SimulationBatch(template, runs: runs, seed: seed)
      violations += batch.violations.map { "\(name.rawValue), seed \($0.seed): \($0.what)" }
      if output.json {
        try Output.json(SimulationReport.Answer(batch))
      } else {
        table.add(SimulationReport.row(batch))
      }
    }
    if !output.json {
      table.lines.forEach(Output.line)
      if let bound = SimulationReport.bound(template) { Output.line(bound) }
    }
    violations.prefix(10).forEach(Output.error)
    guard violations.isEmpty else { throw ExitStatus.failed.exitCode }
  }
}
