import Agent
import ArgumentParser
import FoundationEssentials
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

  private var suite: LabSuite? { LabSuite.shipped().first { $0.name == scenario } }

  /// Names of the experiments that are asked for.
  func experiments() throws -> [String] {
    guard let suite else { return [scenario] }
    if guest != nil { throw ValidationError("--guest is for a single experiment") }
    return suite.experiments
  }

  func runMatrix() async throws {
    var isGood = true
    let names = try experiments()
    let folder = suite == nil ? nil : results.map(ResultsFolder.init)
    if let folder {
      try FileManager.default.createDirectory(
        atPath: folder.path, withIntermediateDirectories: true)
    }
    for name in names {
      let file = suite == nil ? results.map(ResultsFile.init) : folder?.file(of: name)
      if names.count > 1, !output.json { Output.line("== \(name)") }
      if try await !run(name, file) { isGood = false }
    }
    guard isGood else { throw ExitStatus.failed.exitCode }
  }

  /// Whether every migration was tried, and every guest is intact.
  private func run(_ name: String, _ results: ResultsFile?) async throws -> Bool {
    var scenario = try Self.load(name)
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
      scenario, selection, common: common, results: results, observer: screen)
    let summary = try await LabWork.run(screen) {
      try await run.run { result in await screen.finished(result) }
    }
    await screen.summary(summary)
    return summary.undone.isEmpty && summary.results.allSatisfy(\.isIntact)
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
      let all = Scenario.all.map(\.name) + shipped + LabSuite.shipped().map(\.name)
      let names = all.joined(separator: ", ")
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
    if let wrong = guest?.first(where: { !scenario.subjects.contains($0) }) {
      let names = scenario.subjects.joined(separator: ", ")
      throw ValidationError(
        "there is no \(scenario.kind.rawValue) \(TerminalText.plain(wrong)); there are \(names)")
    }
    if let strategy {
      let rivals = scenario.methods.filter { if case .rival = $0 { true } else { false } }
      selection.methods = rivals + strategy.methods
    }
    if let only { selection.methods = only.methods + (strategy?.methods ?? []) }
    // A suite has guests and disks: what is of the other kind is left out there.
    let fitting = selection.methods?.filter { $0.isOfDisks == (scenario.kind == .disk) }
    if suite == nil, let wrong = selection.methods?.first(where: { fitting?.contains($0) != true })
    {
      throw ValidationError(
        "\(TerminalText.plain(wrong.name)) does not move a \(scenario.kind.rawValue) alone")
    }
    selection.methods = fitting
    do {
      for method in selection.methods ?? [] { _ = try scenario.tuning(of: method) }
    } catch {
      throw ValidationError("\(error)")
    }
    return selection
  }
}
