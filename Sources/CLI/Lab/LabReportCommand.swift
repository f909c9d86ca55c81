import Agent
import ArgumentParser
import Base
import FoundationEssentials
import HostIO
import Lab

struct LabReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Show what an experiment came to.",
    discussion: """
      Reads the file of godwit lab run --results, prints the tables that the run prints at its end, and writes a \
      page with tables and plots that needs nothing else beside it: RESULTS.html for RESULTS.jsonl. The run may still \
      be going on. --html says where the page goes; --svg, --csv and --markdown write the same for other \
      documents. With one of these, --pages or --json nothing else is written. With --json one object per guest, QEMU, \
      method and figure is printed in place of the tables. --pages writes a page in Markdown with pictures for each experiment, and an index of all that have a \
      page in that folder, now or from before. FILE may be a folder of results files, as a suite leaves it, with \
      --pages, --json or nothing: then each gets its page. Exits 1 when a guest was not intact, the file is no results \
      file, or a page can't be written.
      """)

  @Argument(help: "A results file, or a folder of them.", completion: .file())
  var file: String
  @Option(
    help: ArgumentHelp(
      "Write the page with tables and plots there (default: beside FILE).", valueName: "file"),
    completion: .file())
  var html: String?
  @Option(
    help: ArgumentHelp("Write each plot as a file of its own.", valueName: "folder"),
    completion: .directory)
  var svg: String?
  @Option(
    help: ArgumentHelp("Write each table as a file for spreadsheets.", valueName: "folder"),
    completion: .directory)
  var csv: String?
  @Option(
    help: ArgumentHelp("Write the tables in Markdown.", valueName: "file"), completion: .file())
  var markdown: String?
  @Option(
    help: ArgumentHelp("Write pages of a documentation.", valueName: "folder"),
    completion: .directory)
  var pages: String?
  @Option(
    help: ArgumentHelp("Title of the page (default: the experiment's name).", valueName: "text"))
  var title: String?
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
    let isFolder = ResultsFolder(path: file).exists
    guard !isFolder || (html ?? svg ?? csv ?? markdown ?? title) == nil else {
      Output.error("\(TerminalText.plain(file)) is a folder: there is --pages for it, or no option")
      throw ExitStatus.usage.exitCode
    }
    let files = isFolder ? ResultsFolder(path: file).files : [ResultsFile(path: file)]
    let experiments: [(file: ResultsFile, results: [MatrixResult])]
    do {
      experiments = try files.map { file in
        guard let found = try file.existing() else {
          throw LabError("\(file.path) does not exist")
        }
        return (file, found)
      }
    } catch let error as LabError {
      Output.error(error.description)
      throw ExitStatus.failed.exitCode
    }
    if !isFolder, let first = experiments.first { try write(first.results) }
    if let pages { try writePages(experiments, to: pages) }
    for (file, results) in experiments {
      if output.json {
        for comparison in MatrixComparison.all(results) { try answer(comparison) }
      } else {
        if isFolder { Output.line("== \(file.name)") }
        MatrixTable.lines(results).forEach(Output.line)
      }
      if isForPeople, !results.isEmpty { try writePage(of: file, results) }
    }
    guard experiments.allSatisfy({ $0.results.allSatisfy(\.isIntact) }) else {
      throw ExitStatus.failed.exitCode
    }
  }

  /// Nobody said what else to write.
  private var isForPeople: Bool {
    (html ?? svg ?? csv ?? markdown ?? pages) == nil && !output.json
  }

  /// Writes the page beside the results, and says where.
  private func writePage(of file: ResultsFile, _ results: [MatrixResult]) throws {
    let page = ReportPage(results, title: title ?? results.first?.record.scenario ?? file.name)
    do {
      try Self.put(page.html, file.pagePath)
    } catch {
      Output.error("\(error)")
      throw ExitStatus.failed.exitCode
    }
    Output.write("wrote \(TerminalText.plain(file.pagePath))\n", to: 2)
  }

  private func writePages(
    _ experiments: [(file: ResultsFile, results: [MatrixResult])], to folder: String
  ) throws {
    let shipped = MatrixScenario.shipped().map { ($0.name, $0) }
    let scenarios = Dictionary(shipped) { first, _ in first }
    do {
      let pages = try ResultPages(
        experiments.map {
          .init(name: $0.file.name, scenario: scenarios[$0.file.name], results: $0.results)
        },
        suites: LabSuite.shipped(), kept: ExperimentSummary.written(in: folder))
      for page in pages.files { try Self.put(page.text, "\(folder)/\(page.path)") }
      let written = Set(pages.files.map(\.path))
      for name in experiments.map(\.file.name) {
        try Self.removePlots("\(folder)/\(name)") { !written.contains("\(name)/\($0)") }
      }
    } catch {
      Output.error("\(error)")
      throw ExitStatus.failed.exitCode
    }
  }

  /// Writes the documents that were asked for.
  private func write(_ results: [MatrixResult]) throws {
    guard html != nil || svg != nil || csv != nil || markdown != nil else { return }
    guard !results.isEmpty else {
      Output.error("\(TerminalText.plain(file)) has no results to write a report of")
      throw ExitStatus.failed.exitCode
    }
    let name = file.split(separator: "/").last.map(String.init) ?? file
    let page = ReportPage(results, title: title ?? results.first?.record.scenario ?? name)
    do {
      if let html { try Self.put(page.html, html) }
      if let markdown { try Self.put(page.markdown(), markdown) }
      for plot in page.plots { if let svg { try Self.put(plot.file, "\(svg)/\(plot.name).svg") } }
      for table in page.tables {
        if let csv { try Self.put(table.csv, "\(csv)/\(table.name).csv") }
      }
    } catch {
      Output.error("\(error)")
      throw ExitStatus.failed.exitCode
    }
  }

  /// Pictures of guests and figures that the page has no more.
  private static func removePlots(_ folder: String, where isOld: (String) -> Bool) throws {
    // An experiment that has just begun has no folder yet.
    let files = try? FileManager.default.contentsOfDirectory(atPath: folder)
    for file in files ?? [] where file.hasSuffix(".svg") && isOld(file) {
      try FileManager.default.removeItem(atPath: "\(folder)/\(file)")
    }
  }

  private static func put(_ text: String, _ path: String) throws {
    if let slash = path.lastIndex(of: "/"), slash > path.startIndex {
      try FileManager.default.createDirectory(
        atPath: String(path[..<slash]), withIntermediateDirectories: true)
    }
    try SmallFile.write(text.utf8, to: path)
  }

  private func answer(_ comparison: MatrixComparison) throws {
    func finite(_ value: Double?) -> Double? { value.flatMap { $0.isFinite ? $0 : nil } }
    for method in comparison.methods {
      let (done, count) = comparison.doneCount(method)
      for figure in comparison.figures {
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
