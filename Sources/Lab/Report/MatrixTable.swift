import Base

/// A scenario's results for people: one table per guest and QEMU, the ratios to QEMU's best, and to the
/// same method with pages as they are; and what guests waited for.
public enum MatrixTable {
  /// Lines without line breaks, as wide as they have to be; none without results.
  public static func lines(_ results: [MatrixResult]) -> [String] {
    let comparisons = MatrixComparison.all(results)
    guard !comparisons.isEmpty else { return [] }
    var lines: [String] = []
    for comparison in comparisons {
      let rate = dirtyRate(comparison).map { ": \($0)" } ?? ""
      lines.append("\(comparison.guest), QEMU \(comparison.qemu)\(rate)")
      lines += text(.figures(comparison))
      for table in ReportTable.further(comparison) {
        lines += ["  \(table.title)"] + text(table)
      }
      lines.append("")
    }
    let forecasts = ForecastJudgement(results.map(\.record)).lines
    if !forecasts.isEmpty { lines += forecasts + [""] }
    lines += MatrixFigure.legend(comparisons)
    for result in results where !result.isIntact {
      lines += result.lab.damage.map { "\(result.lab.cell): NOT INTACT: \($0)" }
    }
    return lines
  }

  /// What ran before the moves. A busy machine's guests write less than they were asked to: then the name of the guest lies.
  static func dirtyRate(_ comparison: MatrixComparison) -> String? {
    if let alone = comparison.diskAlone {
      let rate = UInt64(min(alone.perSecond.rounded(), 1e15))
      return "\(rate) requests/s before, half within \(MatrixFigure.latency.text(alone.medianUs))"
    }
    // What memcached writes is not counted.
    guard let rate = comparison.dirtyRate, rate.written > 0 || (rate.asked ?? 1) > 0 else {
      return nil
    }
    let text =
      "wrote \(ByteCount(UInt64(min(rate.written, 1e15))))/s, \(hundredths(rate.written / rate.link)) x the link"
    guard let asked = rate.asked, rate.written < asked * 0.9 else { return text }
    return text + ", LESS THAN ASKED (\(ByteCount(UInt64(min(asked, 1e15))))/s)"
  }

  private static func text(_ table: ReportTable) -> [String] {
    ResultTable.format(
      [table.header.map { $0.uppercased() }] + table.rows.map { [$0.name] + $0.cells.map(\.text) })
  }

  /// `0.98`.
  static func hundredths(_ value: Double) -> String {
    let whole = UInt64(max(min((value * 100).rounded(), 1e15), 0))
    let rest = whole % 100
    return "\(whole / 100).\(rest < 10 ? "0" : "")\(rest)"
  }
}
