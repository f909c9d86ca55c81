import Agent
import ArgumentParser

struct AgentCheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Check an agent's configuration without starting one.",
    discussion: """
      Reads the configuration file as the agent would, looks whether folders, programs and definitions \
      of guests are there, and prints what it finds. Exit status 1 when an agent would not start or \
      could not use something it names; warnings don't change it. Run it as the agent's user, before \
      SIGHUP or a new start.
      """)

  @OptionGroup var options: AgentOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let findings: [ConfigurationCheck.Finding]
    do {
      findings = ConfigurationCheck(try options.load()).findings
    } catch let error as ConfigurationError {
      if output.json {
        try Output.json(["weight": "error", "key": "", "text": "\(error)"])
      }
      throw error
    }
    if output.json {
      try findings.forEach { try Output.json($0) }
    } else {
      var table = Table(["", "KEY", "FOUND"])
      for finding in findings {
        table.add([finding.weight.rawValue, finding.key, finding.text])
      }
      table.lines(fitting: nil).forEach(Output.line)
    }
    if findings.contains(where: { $0.weight == .error }) { throw Agent.ExitStatus.failed.exitCode }
  }
}
