import Agent
import ArgumentParser
import Lab

struct LabReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Show what an experiment came to.",
    discussion: """
      Reads the file of godwit lab run --results and prints the tables that the run prints at its end; the \
      run may still be going on. With --json one object per guest, QEMU, method and figure. Exits 1 when a \
      guest was not intact, or the file is no results file.
      """)

  @Argument(help: "A results file.", completion: .file())
  var file: String
  @OptionGroup var output: OutputOptions

  private struct Answer: Encodable {
    let guest, qemu, method, figure: String
    let done, count: Int
    /// Nil: never reached, or not measured.
    @OrNull var median: Double?
    @OrNull var low: Double?
    @OrNull var high: Double?
    @OrNull var bestRival: String?
    @OrNull var ratio: Double?
    @OrNull var ratioLow: Double?
    @OrNull var ratioHigh: Double?
  }

  func run() throws {
    let results: [MatrixResult]
    do {
      guard let found = try ResultsFile(path: file).existing() else {
        throw LabError("\(file) does not exist")
      }
      results = found
    } catch let error as LabError {
      Output.error(error.description)
      throw ExitStatus.failed.exitCode
    }
    if output.json {
      for comparison in MatrixComparison.all(results) { try answer(comparison) }
    } else {
      MatrixTable.lines(results).forEach(Output.line)
    }
    guard results.allSatisfy(\.isIntact) else { throw ExitStatus.failed.exitCode }
  }

  private func answer(_ comparison: MatrixComparison) throws {
    func finite(_ value: Double?) -> Double? { value.flatMap { $0.isFinite ? $0 : nil } }
    for method in comparison.methods {
      let (done, count) = comparison.doneCount(method)
      for figure in MatrixFigure.allCases {
        let estimate = comparison.estimate(figure, method)
        let rival = figure.hasRatio ? comparison.bestRival(figure) : nil
        let ratio = rival.flatMap { comparison.ratio(figure, method, to: $0) }
        try Output.json(
          Answer(
            guest: comparison.guest, qemu: comparison.qemu, method: method,
            figure: figure.rawValue, done: done, count: count, median: finite(estimate?.median),
            low: finite(estimate?.low), high: finite(estimate?.high), bestRival: rival,
            ratio: finite(ratio?.median), ratioLow: finite(ratio?.low),
            ratioHigh: finite(ratio?.high)))
      }
    }
  }
}
