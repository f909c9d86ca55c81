import Agent
import Base

/// An experiment's results as one page that needs nothing else: tables and pictures, light and dark, readable
/// without a network and on a phone. Pure.
public struct ReportPage: Sendable {
  public let plots: [ReportPlot]
  public let tables: [ReportTable]
  public let html: String
  /// Of each guest with each QEMU, then over all of them.
  private let sections: [(tables: [ReportTable], plots: [ReportPlot])]
  private let title: String
  private let facts, legend: [String]

  /// - Parameter results: at least one.
  public init(_ results: [MatrixResult], title: String) {
    let names = Set(results.map(\.lab.method)).sorted()
    let colours = Dictionary(
      uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
    var (plots, tables, body): ([ReportPlot], [ReportTable], String) = ([], [], "")
    var sections: [(tables: [ReportTable], plots: [ReportPlot])] = []
    let comparisons = MatrixComparison.all(results)
    for comparison in comparisons {
      let figures = ReportTable.figures(comparison)
      let own = [figures] + ReportTable.allRatios(comparison)
      let pictures = ReportPlots(comparison: comparison, colours: colours).all
      body += "<section><h2>\(SVG.escape(figures.title))</h2>\n"
      if let rate = MatrixTable.dirtyRate(comparison) { body += "<p>\(SVG.escape(rate))</p>\n" }
      // The section's title says what the first one is of.
      let shown = own.enumerated().map { $1.html(hasCaption: $0 > 0) }
      body += shown.joined() + Self.figures(pictures) + "</section>\n"
      sections.append((own, pictures))
      tables += own
      plots += pictures
    }
    let over = [
      ReportPlot.forecasts(results, colours), ReportPlot.pauses(results, colours),
    ].compactMap(\.self)
    if !over.isEmpty {
      body += "<section><h2>What was foretold</h2>\n\(Self.figures(over))</section>\n"
    }
    let damage = results.filter { !$0.isIntact }.flatMap { result in
      result.lab.damage.map { "\(result.lab.cell): \($0)" }
    }
    let verdict =
      damage.isEmpty
      ? "<p>Everything that moved was intact afterwards.</p>\n"
      : "<p class=\"worse\">Not intact afterwards:</p><ul>"
        + damage.map { "<li>\(SVG.escape($0))</li>" }.joined() + "</ul>\n"
    let items = Self.facts(results).map { "<li>\(SVG.escape($0))</li>" }.joined()
    legend = MatrixFigure.legend(comparisons)
    let notes = legend.map { "<li>\(SVG.escape($0))</li>" }.joined()
    (self.plots, self.tables) = (plots + over, tables)
    self.sections = sections + [([], over)]
    (self.title, self.facts) = (title, Self.facts(results))
    html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      + "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      + "<meta name=\"color-scheme\" content=\"light dark\"><title>\(SVG.escape(title))</title>"
      + "<link rel=\"icon\" href=\"data:,\">"
      + "<style>\(PlotStyle.css)\(Self.css)</style></head><body><main>\n"
      + "<h1>\(SVG.escape(title))</h1>\n<ul class=\"facts\">\(items)</ul>\n\(verdict)\(body)<ul class=\"facts\">\(notes)</ul>\n"
      + "</main></body></html>\n"
  }

  /// The tables, and pictures where a folder is named that has them.
  ///
  /// - Parameter about: a paragraph below the title.
  public func markdown(pictures folder: String? = nil, about: String = "") -> String {
    let head = "# \(title)\n\n\(about)\(facts.joined(separator: "  \n"))\n\n"
    let parts = sections.map { section in
      section.tables.map(\.markdown).joined()
        + section.plots.compactMap { plot in
          folder.map {
            "![\(plot.title)](\($0)/\(plot.name).svg)\n\n*\(plot.title).* \(plot.note)\n\n"
          }
        }.joined()
    }
    return head + parts.joined() + legend.joined(separator: "  \n") + "\n"
  }

  private static func figures(_ plots: [ReportPlot]) -> String {
    [plots.filter(\.isLow), plots.filter { !$0.isLow }].filter { !$0.isEmpty }.map {
      "<div class=\"plots\">\($0.map(figure).joined())</div>\n"
    }.joined()
  }

  private static func figure(_ plot: ReportPlot) -> String {
    "<figure><h3>\(SVG.escape(plot.title))</h3><div class=\"wide\">\(plot.svg)</div>"
      + "<figcaption>\(SVG.escape(plot.note))</figcaption></figure>\n"
  }

  /// What was measured, where: for people who want to know what the figures are worth.
  static func facts(_ results: [MatrixResult]) -> [String] {
    func distinct(_ values: [String]) -> String { Set(values).sorted().joined(separator: ", ") }
    let far = results.compactMap(\.lab.linkLatencyMs).map(Milliseconds.format)
    var facts = [
      "\(results.count) migrations, \(results.map(\.lab.round).max().map { $0 + 1 } ?? 0) rounds; Godwit "
        + distinct(results.map(\.lab.godwit)),
      "link: "
        + distinct(
          results.map {
            ByteRate(bytesPerSecond: $0.lab.linkBytesPerSecond)?.description ?? "none"
          })
        + (far.isEmpty ? "" : ", \(distinct(far)) each way")
        + " (\(distinct(results.map(\.lab.network))))",
    ]
    let others = results.compactMap(\.lab.competingBytesPerSecond).sorted()
    if let most = others.last, let rate = ByteRate(bytesPerSecond: others[others.count / 2]) {
      facts.append(
        "beside others' traffic, which got \(rate) at the median and at most "
          + (ByteRate(bytesPerSecond: most)?.description ?? "nothing"))
    }
    facts.append("machine: \(distinct(results.map(\.lab.host.name)))")
    let busy = results.compactMap(\.lab.host.loadPercent).max()
    if let busy {
      facts.append(
        "load average before a migration: at most \(MatrixTable.hundredths(Double(busy) / 100))")
    }
    let counts = Dictionary(grouping: results) { "\($0.lab.guest)/\($0.lab.qemu)/\($0.lab.method)" }
      .values.map { Set($0.map(\.lab.round)).count }
    if let least = counts.min(), least < Estimate.countMin {
      facts.append(
        "fewer than \(Estimate.countMin) rounds\(counts.max() == least ? "" : " of some"): "
          + "figures without intervals, from which nothing follows")
    }
    return facts
  }

  private static let css =
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}"
    + "main{max-width:72rem;margin:0 auto;padding:1rem}h1{font-size:1.6rem}h2{margin-top:2.5rem}"
    + "h3{font-size:1rem;margin:0 0 .25rem}figure{margin:.75rem 0;min-width:0}"
    + ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));"
    + "gap:0 2rem}"
    + "figcaption,.facts{color:var(--faint);font-size:.85rem}"
    // What is wider than the page casts a shadow at its right end, until it is reached.
    + ".wide{overflow-x:auto;background:"
    + "linear-gradient(270deg,var(--paper) 1rem,transparent) right/2.5rem 100% no-repeat local,"
    + "linear-gradient(270deg,var(--grid),transparent) right/1rem 100% no-repeat}"
    + ".wide svg{width:100%;height:auto;display:block}"
    + "table{border-collapse:collapse;font-size:.85rem;margin:1rem 0;white-space:nowrap}"
    + "caption{text-align:left;font-weight:600;padding-bottom:.3rem}"
    + "th,td{padding:.25rem .6rem;border-bottom:1px solid var(--grid);text-align:right}"
    + "thead th{white-space:normal;vertical-align:bottom;line-height:1.25}"
    + "th:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}"
    + ".better{color:var(--c2);font-weight:600}.worse{color:var(--c8)}"
}
