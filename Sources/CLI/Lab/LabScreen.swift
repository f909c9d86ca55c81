import Agent
import Lab

/// Shows an experiment: what happens on standard error, results on standard output.
actor LabScreen: LabObserver {
  private let json: Bool
  private var printer = ProgressPrinter(descriptor: 2)

  init(json: Bool) { self.json = json }

  func note(_ text: String) {
    printer.clear()
    Output.write(TerminalText.plain(text) + "\n", to: 2)
  }

  func progress(_ progress: MigrationProgress) { printer.show([progress]) }

  func clear() { printer.clear() }

  func finished(_ trial: Trial) {
    printer.clear()
    if json { try? Output.json(trial.record) }
    for problem in trial.damage {
      Output.write("\(trial.record.method): NOT INTACT: \(TerminalText.plain(problem))\n", to: 2)
    }
    if let reason = trial.record.reason {
      Output.write("\(trial.record.method): \(TerminalText.plain(reason))\n", to: 2)
    }
  }

  func finished(_ result: MatrixResult) {
    printer.clear()
    if json { try? Output.json(result) }
    for problem in result.lab.damage {
      Output.write("\(result.lab.cell): NOT INTACT: \(TerminalText.plain(problem))\n", to: 2)
    }
    if let reason = result.record.reason {
      Output.write("\(result.lab.method): \(TerminalText.plain(reason))\n", to: 2)
    }
  }

  func summary(_ summary: MatrixRun.Summary) {
    if !json {
      Output.line("")
      MatrixTable.lines(summary.results).forEach(Output.line)
    }
    for (cell, reason) in summary.undone {
      Output.write("\(cell): not done: \(TerminalText.plain(reason))\n", to: 2)
    }
  }

  func summary(_ trials: [Trial]) {
    guard !json else { return }
    Output.line("")
    ResultTable.lines(trials).forEach(Output.line)
    Output.line("")
    Output.line(
      trials.allSatisfy(\.isGood)
        ? "every guest is intact after its move" : "NOT every guest is intact, or a move failed")
  }
}
