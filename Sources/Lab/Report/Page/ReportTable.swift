import Base

/// A table of a report, for pages, Markdown and spreadsheets. Pure.
public struct ReportTable: Sendable {
  struct Cell: Sendable {
    var text: String
    /// For spreadsheets; nil: nothing was measured, or it was never reached.
    var value: Double?
    /// A ratio to QEMU's best: below 1 is better.
    var ratio: Estimate?
  }

  /// Name of its file, without ending.
  public var name: String
  var title: String
  var header: [String]
  var rows: [(name: String, cells: [Cell])]

  /// Every figure of every method.
  static func figures(_ comparison: MatrixComparison) -> ReportTable {
    let rows = comparison.methods.map { method in
      let (done, count) = comparison.doneCount(method)
      let figures = comparison.figures.map { figure -> Cell in
        let estimate = comparison.estimate(figure, method)
        return Cell(
          text: text(estimate, figure.text),
          value: estimate.flatMap { $0.median.isFinite ? $0.median : nil })
      }
      return (method, [Cell(text: "\(done) of \(count)", value: Double(done))] + figures)
    }
    return ReportTable(
      name: ReportText.slug("\(comparison.guest)-\(comparison.qemu)"),
      title: "\(comparison.guest), QEMU \(comparison.qemu)",
      header: ["method", "done"] + comparison.figures.map { $0.title.lowercased() }, rows: rows)
  }

  static func text(_ estimate: Estimate?, _ format: (Double) -> String) -> String {
    guard let estimate else { return "–" }
    guard let low = estimate.low, let high = estimate.high else { return format(estimate.median) }
    return "\(format(estimate.median)) [\(format(low)), \(format(high))]"
  }

  /// Values in milliseconds, bytes and percent; what was not reached is empty.
  public var csv: String {
    let lines =
      [header]
      + rows.map { row in [row.name] + row.cells.map { $0.value.map { "\($0)" } ?? "" } }
    return lines.map { $0.map(Self.quoted).joined(separator: ",") + "\r\n" }.joined()
  }

  private static func quoted(_ field: String) -> String {
    guard field.contains(where: { ",\"\r\n".contains($0) }) else { return field }
    return "\"" + field.replacing("\"", with: "\"\"") + "\""
  }

  var markdown: String {
    let lines = [header, header.map { _ in "---" }] + rows.map { [$0.name] + $0.cells.map(\.text) }
    return "### \(title)\n\n"
      + lines.map {
        "| " + $0.map { $0.replacing("|", with: "\\|") }.joined(separator: " | ") + " |\n"
      }
      .joined() + "\n"
  }

  /// - Parameter hasCaption: whether its title stands above it.
  func html(hasCaption: Bool) -> String {
    let caption = hasCaption ? "<caption>\(SVG.escape(title))</caption>" : ""
    let head = header.map { "<th scope=\"col\">\(SVG.escape($0))</th>" }.joined()
    let body = rows.map { row in
      let cells = row.cells.map { cell -> String in
        guard let verdict = cell.ratio?.verdict else { return "<td>\(SVG.escape(cell.text))</td>" }
        return "<td class=\"\(verdict)\">\(SVG.escape(cell.text))</td>"
      }
      return "<tr><th scope=\"row\">\(SVG.escape(row.name))</th>\(cells.joined())</tr>\n"
    }
    return
      "<div class=\"wide\"><table>\(caption)<thead><tr>\(head)</tr>"
      + "</thead><tbody>\n\(body.joined())</tbody></table></div>\n"
  }
}
