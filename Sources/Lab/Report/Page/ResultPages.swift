import Agent
import Base

/// Results of many experiments as pages of a documentation, in Markdown with pictures beside them, and an index that
/// says what they don't show. Pure.
public struct ResultPages: Sendable {
  /// Paths below a folder, and what is in them.
  public let files: [(path: String, text: String)]

  /// One experiment: the name of its results file, and its scenario where that is known.
  public struct Experiment: Sendable {
    public var name: String
    public var scenario: MatrixScenario?
    public var results: [MatrixResult]

    public init(name: String, scenario: MatrixScenario?, results: [MatrixResult]) {
      (self.name, self.scenario, self.results) = (name, scenario, results)
    }

    /// What the scenario says, and what of it was not measured.
    fileprivate var about: String {
      guard let scenario else { return "" }
      let left = scenario.unmeasured(in: results).map { "\($0)\n\n" } ?? ""
      return "\(scenario.about).\n\n\(left)"
    }
  }

  /// - Parameters:
  ///   - suites: those that the index lists, with or without results.
  ///   - kept: summaries of pages that were written before, and stay where nothing was measured anew.
  public init(
    _ experiments: [Experiment], suites: [LabSuite], kept: [ExperimentSummary] = []
  ) throws {
    let measured = experiments.filter { !$0.results.isEmpty }
    let now = measured.map { ExperimentSummary($0.results, name: $0.name) }
    let names = Set(now.map(\.name))
    let index = ResultsIndex(
      (now + kept.filter { !names.contains($0.name) }).sorted { $0.name < $1.name }, suites)
    var files = [(path: "README.md", text: Self.notice + index.markdown)]
    for (experiment, summary) in zip(measured, now) {
      let name = ReportText.slug(experiment.name)
      files.append((ExperimentSummary.path(of: name), try JSONLine.encode(summary) + "\n"))
      let page = ReportPage(experiment.results, title: experiment.name)
      let text = page.markdown(pictures: name, about: experiment.about)
      files.append(("\(name).md", Self.notice + text + Self.linesNote(name)))
      files += page.plots.map { ("\(name)/\($0.name).svg", $0.file) }
      let lines = try experiment.results.map { try JSONLine.encode($0.withoutTimelines) + "\n" }
      files.append(("\(name)/\(Self.linesName)", lines.joined()))
    }
    self.files = files
  }

  /// Each migration of an experiment, so that figures and intervals can be worked out anew.
  static let linesName = "results.jsonl"

  private static func linesNote(_ name: String) -> String {
    "\nEach migration by itself, without its timelines: [\(linesName)](\(name)/\(linesName)); `godwit lab report FILE` makes "
      + "these tables of it.\n"
  }

  private static let notice =
    "<!-- Written by godwit lab report --pages; changes by hand are lost. -->\n\n"
}
