import Base

/// Which experiments were measured, where, and what they don't show. Pure.
struct ResultsIndex {
  private let experiments: [ExperimentSummary]
  private let suites: [LabSuite]

  /// - Parameters:
  ///   - experiments: in the order of the table.
  ///   - suites: with or without results.
  init(_ experiments: [ExperimentSummary], _ suites: [LabSuite]) {
    (self.experiments, self.suites) = (experiments, suites)
  }

  var markdown: String {
    var text = "# Results\n\n"
    text +=
      "What the lab measured, as `godwit lab report FOLDER --pages Docs/results` writes it down. Anyone can measure"
      + " again: `godwit lab run SUITE --results FOLDER`.\n\n"
    if !suites.isEmpty { text += suiteTable + "\n" }
    guard !experiments.isEmpty else { return text + "Nothing has been measured yet.\n" }
    text += experimentTable
    text += "\n## Where\n\n" + facts.map { "- \($0)\n" }.joined()
    return text + "\n## What they don't show\n\n" + limits.map { "- \($0)\n" }.joined()
  }

  private var suiteTable: String {
    let names = Set(experiments.map(\.name))
    return suites.reduce(
      "| suite | what it is | experiments |\n| --- | --- | --- |\n"
    ) { text, suite in
      let list = suite.experiments.map { names.contains($0) ? Self.link($0) : $0 }
      return text
        + "| `\(suite.name)` | \(Self.cell(suite.about)) | \(list.joined(separator: ", ")) |\n"
    }
  }

  private var experimentTable: String {
    experiments.reduce(
      "| experiment | migrations | rounds | done | intact | load average before, at most"
        + " | forecasts in their band, median error |\n"
        + "| --- | --- | --- | --- | --- | --- | --- |\n"
    ) { text, experiment in
      let load = experiment.loadPercent.map { MatrixTable.hundredths(Double($0) / 100) }
      return text
        + "| \(Self.link(experiment.name)) | \(experiment.migrations) | \(experiment.rounds)"
        + " | \(experiment.done) | \(experiment.intact) | \(load ?? "")"
        + " | \(experiment.forecasts.map(Self.text) ?? "") |\n"
    }
  }

  private static func text(_ forecasts: ExperimentSummary.Forecasts) -> String {
    "\(forecasts.withinBand) of \(forecasts.count), \(forecasts.medianErrorPercent) %"
  }

  /// Of all experiments together; nil: nothing was forecast.
  private var forecastFact: String? {
    let all = experiments.compactMap(\.forecasts)
    let count = all.reduce(0) { $0 + $1.count }
    guard count > 0 else { return nil }
    let within = all.reduce(0) { $0 + $1.withinBand }
    return "forecasts of total times: \(within) of \(count) within their band of nine tenths"
      + " (\(within * 100 / count) %)"
  }

  private var facts: [String] {
    func distinct(_ path: KeyPath<ExperimentSummary, [String]>) -> String {
      Set(experiments.flatMap { $0[keyPath: path] }).sorted().joined(separator: ", ")
    }
    let migrations = experiments.reduce(0) { $0 + $1.migrations }
    let builds = Set(experiments.flatMap { $0.builds ?? [] }).sorted().joined(separator: ", ")
    return ["\(migrations) migrations; Godwit \(distinct(\.godwit))"]
      + (builds.isEmpty ? [] : ["builds, where results say so: \(builds)"]) + [
        "link: \(distinct(\.links)) (\(distinct(\.networks)))",
        "machine: \(distinct(\.machines))",
      ] + [forecastFact].compactMap { $0 }
  }

  /// What the results can't tell, from what they say of themselves.
  private var limits: [String] {
    var limits: [String] = []
    if experiments.contains(where: \.isTranslated) {
      limits.append(
        "Guests ran in QEMU's translator (TCG), not on KVM: their processors are many times slower, finding dirty"
          + " pages costs otherwise, and they take the host's processors from QEMU and from the agents."
      )
    }
    let processors = Set(experiments.flatMap(\.processors)).sorted().map(String.init)
    limits.append(
      "Both hosts, the guests and their clients were one machine with \(processors.joined(separator: " or "))"
        + " processors: what takes much processor time is slower here than on hosts of its own.")
    limits.append(
      "The link is a rate limit between network namespaces, or on the loopback interface: no loss, "
        + (experiments.contains(where: \.hasDistance)
          ? "distance only where a page says so, " : "no distance, ")
        + (experiments.contains(where: \.hasOthersTraffic)
          ? "and other traffic only where a page says so." : "no other traffic."))
    if experiments.contains(where: \.hasLimitedDisks) {
      limits.append(
        "Disks with a limit are QEMU's throttle filter behind a FUSE file, which carries out one request after the"
          + " other: no seeks, so reading in sequence is no cheaper than elsewhere.")
    }
    if experiments.contains(where: { $0.hasHeadedDisks == true }) {
      limits.append(
        "Drives with a head are the simulator's model in real time, behind a FUSE file: one request after the other, as they"
          + " come, and the disk is the whole drive. No drive was there that reorders requests or caches writes."
      )
    }
    let few = experiments.filter { ($0.leastRounds ?? $0.rounds) < Estimate.countMin }
    if !few.isEmpty {
      limits.append(
        "Fewer than \(Estimate.countMin) rounds, of some of it at least, hence no intervals and no claims: "
          + few.map(\.name).joined(separator: ", ") + ".")
    }
    let undone = experiments.reduce(0) { $0 + $1.migrations - $1.done }
    if undone > 0 {
      limits.append(
        "\(undone) migrations were not done in their time; they count as larger than any number.")
    }
    return limits
  }

  private static func link(_ name: String) -> String {
    "[\(cell(name))](\(ReportText.slug(name)).md)"
  }

  /// Text in a table.
  private static func cell(_ text: String) -> String { text.replacing("|", with: "\\|") }
}
