import Agent
public import ArgumentParser
import Base
import Lab

/// `godwit lab`: experiments on this machine.
public struct LabCommand: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "lab",
    abstract: "Move test guests on this machine and see what it costs.",
    discussion: """
      The lab boots real Linux guests, moves them between two hosts made of network namespaces, and \
      looks at them from inside (a program that checks all of its memory) and from outside (clients \
      that keep their connections). scripts/install-dependencies.sh fetches what it needs.
      """,
    subcommands: [
      LabRunCommand.self, LabReportCommand.self, LabFaultsCommand.self, LabListCommand.self,
    ])

  public init() {}
}

struct LabListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the experiments, and the suites of them.")

  @OptionGroup var output: OutputOptions

  private struct Answer: Encodable {
    let name, about: String
    /// Of a suite.
    @OrNull var experiments: [String]?
  }

  func run() throws {
    var table = Table(["NAME", "ABOUT"])
    for scenario in Scenario.all {
      if output.json {
        try Output.json(Answer(name: scenario.name, about: scenario.about, experiments: nil))
      }
      table.add([scenario.name, scenario.about])
    }
    for scenario in MatrixScenario.shipped() {
      if output.json {
        try Output.json(Answer(name: scenario.name, about: scenario.about, experiments: nil))
      }
      table.add([scenario.name, scenario.about])
    }
    for suite in LabSuite.shipped() {
      if output.json {
        try Output.json(
          Answer(name: suite.name, about: suite.about, experiments: suite.experiments))
      }
      table.add([suite.name, "suite of \(suite.experiments.count): \(suite.about)"])
    }
    if !output.json { table.lines.forEach(Output.line) }
  }
}
