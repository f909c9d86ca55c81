import Agent
import ArgumentParser
import Base
import Strategy

struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan", abstract: "Forecast a migration, strategy by strategy, before it begins.",
    discussion: """
      VM and DESTINATION are those of `godwit migrate`. Nothing is changed on either host, and no QEMU is \
      started. The agent checks what can be checked so, measures the link with a burst of half a second \
      and 32 MiB at most, and looks for some 4 s at a sample of the guest's pages: how many of them \
      change within 0.25 to 4 s, and how many are zero. It takes at most a fifth of one core for that and \
      doesn't slow the guest down. Of some of these pages it finds out whether the destination has them already: \
      in images that both hosts have indexed (godwit index), or in its vault. \
      Then each strategy is simulated; bands hold nine tenths of the runs.

      Exit status 3 when a migration would be refused, also because no strategy can keep --within; \
      otherwise 0, whatever the forecast says.
      """)

  /// Rivals are there to be compared with, not to be chosen.
  static let strategies = StrategyName.allCases.filter { $0 != .ramp && $0 != .stall }

  @Argument(help: "Name of the VM, or qmp:PATH.")
  var vm: String
  @Argument(help: "Agent of the destination, HOST or HOST:PORT.")
  var destination: String
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Strategies to forecast; without, all but rivals.", valueName: "name"))
  var strategy: [StrategyName] = []
  @OptionGroup(title: "Constraints") var wishes: MigrationWishes
  @OptionGroup(title: "Disks") var diskOptions: DiskOptions
  @Option(help: ArgumentHelp("Data connections, 1 to 64.", valueName: "number"))
  var lanes = 4
  @Option(help: ArgumentHelp("Runs of each strategy, 1 to 10000.", valueName: "number"))
  var runs = 40
  @Option(help: ArgumentHelp("Seed of the first run.", valueName: "number"))
  var seed: UInt64 = 1
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  var request: MigrationRequest {
    var request = MigrationRequest(vm: vm, destination: destination)
    wishes.apply(to: &request)
    request.laneCount = lanes
    request.disks = diskOptions.wishes
    return request
  }

  func validate() throws {
    guard (1...10_000).contains(runs) else { throw ValidationError("--runs takes 1 to 10000") }
    if let problem = request.problem { throw ValidationError(problem) }
  }

  func run() async throws {
    let report = try await look()
    guard report.refusals.isEmpty else {
      if output.json {
        try Output.json(PlanAnswer(report, nil))
      } else {
        report.refusals.forEach { Output.error("refused: \($0)") }
      }
      throw ExitStatus.refused.exitCode
    }
    let forecast = try PlannedForecast(
      report, request, strategies: strategy.isEmpty ? Self.strategies : strategy, runs: runs,
      seed: seed)
    if output.json {
      try Output.json(PlanAnswer(report, forecast))
    } else {
      forecast.lines.forEach(Output.line)
    }
    guard !forecast.isRefused else { throw ExitStatus.refused.exitCode }
  }

  private func look() async throws -> PlanReport {
    var line = StatusLine()
    if !output.json { line.show("looking at \(vm) and the link to \(destination) …") }
    defer { line.clear() }
    return try await control.client.plan(request)
  }
}
