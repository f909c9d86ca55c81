import Agent
import ArgumentParser
import Lab
import Strategy

// Experiments that are files.
extension LabRunCommand {
  /// An option that was given and that the file decides; nil when there is none.
  var nameOfOptionThatIsTheFiles: String? {
    let given: [(String, Bool)] = [
      ("--source-qemu", sourceQemu != nil), ("--destination-qemu", destinationQemu != nil),
      ("--memory", memory != nil), ("--machine", machine != nil), ("--backend", backend != nil),
      ("--accel", accel != nil), ("--smp", smp != nil), ("--numa", numa != nil),
      ("--link-rate", linkRate != nil), ("--dirty-rate", dirtyRate != nil), ("--hot", hot != nil),
      ("--pattern", pattern != nil), ("--page-source", pageSource != .auto),
      ("--no-audit", noAudit), ("--return-after", returnAfter != nil),
    ]
    return given.first { $0.1 }?.0
  }

  var nameOfOptionThatNeedsAFile: String? {
    let given = [("--guest", guest != nil), ("--seed", seed != nil), ("--results", results != nil)]
    return given.first { $0.1 }?.0
  }

  func runMatrix() async throws {
    var scenario = try Self.load(scenario)
    if let qemu { scenario.qemus = [qemu] }
    if let seed { scenario.seed = seed }
    if let downtime { scenario.downtimeLimitMs = downtime }
    if let timeout { scenario.timeoutMs = timeout }
    let selection = try selection(scenario)
    var common = LabOptions()
    (common.insecure, common.forceLoopback, common.keep) = (insecure, loopback, keep)
    common.tuning = constraints
    if forecast || scenario.isForecast { common.forecaster = Self.forecaster }
    let screen = LabScreen(json: output.json)
    let run = MatrixRun(
      scenario, selection, common: common, results: results.map(ResultsFile.init), observer: screen)
    let summary = try await LabWork.run(screen) {
      try await run.run { result in await screen.finished(result) }
    }
    await screen.summary(summary)
    guard summary.undone.isEmpty, summary.results.allSatisfy(\.isIntact) else {
      throw ExitStatus.failed.exitCode
    }
  }

  /// As `godwit plan` makes it. A migration that would be refused says so itself.
  static var forecaster: LabOptions.Forecaster {
    { report, request in
      guard report.refusals.isEmpty, let strategy = StrategyName(rawValue: request.strategy) else {
        return nil
      }
      let planned = try PlannedForecast(
        report, request, strategies: [strategy], runs: MigrateCommand.forecastRuns, seed: 1)
      return MigrationRecord.Forecast(planned, strategy)
    }
  }

  static func load(_ name: String) throws -> MatrixScenario {
    let shipped = MatrixScenario.shipped().map(\.name)
    guard name.hasSuffix(".toml") || shipped.contains(name) else {
      let names = (Scenario.all.map(\.name) + shipped).joined(separator: ", ")
      throw ValidationError(
        "there is no experiment \(TerminalText.plain(name)); there are \(names)")
    }
    do {
      return try MatrixScenario.load(name)
    } catch let error as ConfigurationError {
      throw ValidationError(error.description)
    }
  }

  /// `--only` and `--strategy` choose methods; with `--strategy`, which may name some that the file
  /// does not have, QEMU's ways stay.
  func selection(_ scenario: MatrixScenario) throws -> MatrixSelection {
    var selection = MatrixSelection()
    selection.rounds = repeatCount
    selection.guests = guest
    if let wrong = guest?.first(where: { name in !scenario.guests.contains { $0.name == name } }) {
      let names = scenario.guests.map(\.name).joined(separator: ", ")
      throw ValidationError("there is no guest \(TerminalText.plain(wrong)); there are \(names)")
    }
    if let strategy {
      let rivals = scenario.methods.filter { if case .rival = $0 { true } else { false } }
      selection.methods = rivals + strategy.methods
    }
    if let only { selection.methods = only.methods + (strategy?.methods ?? []) }
    do {
      for method in selection.methods ?? [] { _ = try scenario.tuning(of: method) }
    } catch {
      throw ValidationError("\(error)")
    }
    return selection
  }
}
