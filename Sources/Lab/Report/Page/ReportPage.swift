import Agent
import Base

/// An experiment's results as one page that needs nothing else: tables and pictures, light and dark, readable
/// without a network and on a phone. Pure.
public struct ReportPage: Sendable {
  public let plots: [ReportPlot]
  public let tables: [ReportTable]
  public let html: String
  /// The matrix of ratios, each guest with each QEMU, then what is over all of them.
  private let sections: [(tables: [ReportTable], plots: [ReportPlot])]
  private let title: String
  private let facts, legend: [String]

  /// - Parameter results: at least one.
  public init(_ results: [MatrixResult], title: String) {
    let names = Set(results.map(\.lab.method)).sorted()
    let colours = Dictionary(
      uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
    let comparisons = MatrixComparison.all(results)
    let matrices = ReportPlot.matrices(comparisons)
    var (plots, tables, body): ([ReportPlot], [ReportTable], String) = (matrices, [], "")
    var sections: [(tables: [ReportTable], plots: [ReportPlot])] = [([], matrices)]
    if !matrices.isEmpty {
      body += "<section><h2>Ratios to QEMU's best way</h2>\n\(Self.figures(matrices))</section>\n"
    }
    for comparison in comparisons {
      let figures = ReportTable.figures(comparison)
      let own = [figures] + ReportTable.further(comparison)
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
    facts = ExperimentSummary(results, name: title).facts
    let items = facts.map { "<li>\(SVG.escape($0))</li>" }.joined()
    legend = MatrixFigure.legend(comparisons)
    let notes = legend.map { "<li>\(SVG.escape($0))</li>" }.joined()
    (self.plots, self.tables) = (plots + over, tables)
    self.sections = sections + [([], over)]
    self.title = title
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
    let groups = [
      plots.filter(\.isWide), plots.filter(\.isLow), plots.filter { !$0.isLow && !$0.isWide },
    ]
    return groups.filter { !$0.isEmpty }.map {
      "<div class=\"plots\">\($0.map(figure).joined())</div>\n"
    }.joined()
  }

  private static func figure(_ plot: ReportPlot) -> String {
    "<figure\(plot.isWide ? " class=\"whole\"" : "")><h3>\(SVG.escape(plot.title))</h3><div class=\"wide\">\(plot.svg)</div>"
      + "<figcaption>\(SVG.escape(plot.note))</figcaption></figure>\n"
  }

  private static let css =
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}"
    + "main{max-width:72rem;margin:0 auto;padding:1rem}h1{font-size:1.6rem}h2{margin-top:2.5rem}"
    + "h3{font-size:1rem;margin:0 0 .25rem}figure{margin:.75rem 0;min-width:0}"
    + ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));"
    + "gap:0 2rem}.whole{grid-column:1/-1}"
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
