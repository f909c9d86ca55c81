import Agent
import Base

/// Results of many experiments as pages of a documentation, in Markdown with pictures beside them, and an index that
/// says what they don't show. Pure.
public struct ResultPages: Sendable {
  /// Paths below a folder, and what is in them.
  public let files: [(path: String, text: String)]

  /// One experiment: the name of its results file, and what it is about where that is known.
  public struct Experiment: Sendable {
    public var name: String
    public var about: String?
    public var results: [MatrixResult]

    public init(name: String, about: String?, results: [MatrixResult]) {
      (self.name, self.about, self.results) = (name, about, results)
    }
  }

  /// - Parameter suites: those that the index lists, with or without results.
  public init(_ experiments: [Experiment], suites: [LabSuite]) {
    let measured = experiments.filter { !$0.results.isEmpty }
    var files = [(path: "README.md", text: Self.index(measured, suites))]
    for experiment in measured {
      let name = ReportText.slug(experiment.name)
      let page = ReportPage(experiment.results, title: experiment.name)
      let about = experiment.about.map { "\($0).\n\n" } ?? ""
      files.append(("\(name).md", Self.notice + page.markdown(pictures: name, about: about)))
      files += page.plots.map { ("\(name)/\($0.name).svg", $0.file) }
    }
    self.files = files
  }

  private static let notice =
    "<!-- Written by godwit lab report --pages; changes by hand are lost. -->\n\n"

  private static func index(_ experiments: [Experiment], _ suites: [LabSuite]) -> String {
    var text = notice + "# Results\n\n"
    text +=
      "What the lab measured, as `godwit lab report FOLDER --pages Docs/results` writes it down. Anyone can measure"
      + " again: `godwit lab run SUITE --results FOLDER`.\n\n"
    let names = Set(experiments.map(\.name))
    if !suites.isEmpty {
      text += "| suite | what it is | experiments |\n| --- | --- | --- |\n"
      for suite in suites {
        let list = suite.experiments.map { name in
          names.contains(name) ? "[\(name)](\(ReportText.slug(name)).md)" : name
        }
        text += "| `\(suite.name)` | \(cell(suite.about)) | \(list.joined(separator: ", ")) |\n"
      }
      text += "\n"
    }
    guard !experiments.isEmpty else { return text + "Nothing has been measured yet.\n" }
    text +=
      "| experiment | migrations | rounds | done | intact |\n| --- | --- | --- | --- | --- |\n"
    for experiment in experiments {
      let results = experiment.results
      let rounds = (results.map(\.lab.round).max() ?? 0) + 1
      text +=
        "| [\(cell(experiment.name))](\(ReportText.slug(experiment.name)).md) | \(results.count) | \(rounds)"
        + " | \(results.count(where: \.isDone)) | \(results.count(where: \.isIntact)) |\n"
    }
    let all = experiments.flatMap(\.results)
    text += "\n## Where\n\n" + ReportPage.facts(all).map { "- \($0)\n" }.joined()
    text += "\n## What they don't show\n\n" + limits(experiments).map { "- \($0)\n" }.joined()
    return text
  }

  /// What the results can't tell, from what they say of themselves.
  private static func limits(_ experiments: [Experiment]) -> [String] {
    let all = experiments.flatMap(\.results)
    var limits: [String] = []
    if all.contains(where: { $0.lab.accelerator == GuestSpecification.Accelerator.tcg.rawValue }) {
      limits.append(
        "Guests ran in QEMU's translator (TCG), not on KVM: their processors are many times slower, finding dirty"
          + " pages costs otherwise, and they take the host's processors from QEMU and from the agents."
      )
    }
    let processors = Set(all.map(\.lab.host.processors)).sorted().map(String.init)
    limits.append(
      "Both hosts, the guests and their clients were one machine with \(processors.joined(separator: " or "))"
        + " processors: what takes much processor time is slower here than on hosts of its own.")
    let others = all.contains { $0.lab.competingBytesPerSecond != nil }
    let isFar = all.contains { $0.lab.linkLatencyMs != nil }
    limits.append(
      "The link is a rate limit between network namespaces, or on the loopback interface: no loss, "
        + (isFar ? "distance only where a page says so, " : "no distance, ")
        + (others ? "and other traffic only where a page says so." : "no other traffic."))
    if all.contains(where: { $0.lab.disk?.isOfLimitedDevice == true }) {
      limits.append(
        "Disks with a limit are QEMU's throttle filter behind a FUSE file, which carries out one request after the"
          + " other: no seeks, so reading in sequence is no cheaper than elsewhere.")
    }
    let few = experiments.filter {
      ($0.results.map(\.lab.round).max() ?? 0) + 1 < Estimate.countMin
    }
    if !few.isEmpty {
      limits.append(
        "Fewer than \(Estimate.countMin) rounds, hence no intervals and no claims: "
          + few.map(\.name).joined(separator: ", ") + ".")
    }
    let undone = all.count { !$0.isDone }
    if undone > 0 {
      limits.append(
        "\(undone) migrations were not done in their time; they count as larger than any number.")
    }
    return limits
  }

  /// Text in a table.
  private static func cell(_ text: String) -> String { text.replacing("|", with: "\\|") }
}
