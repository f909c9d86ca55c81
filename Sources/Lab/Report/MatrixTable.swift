import Base

/// A scenario's results for people: one table per guest and QEMU, and the ratios to QEMU's best.
public enum MatrixTable {
  public static func lines(_ results: [MatrixResult]) -> [String] {
    let comparisons = MatrixComparison.all(results)
    guard !comparisons.isEmpty else { return [] }
    var lines: [String] = []
    for comparison in comparisons {
      let rate = dirtyRate(comparison).map { ": \($0)" } ?? ""
      lines.append("\(comparison.guest), QEMU \(comparison.qemu)\(rate)")
      lines += figures(comparison)
      let ratios = ratios(comparison)
      if !ratios.isEmpty { lines += ["  ratio to QEMU's best"] + ratios }
      lines.append("")
    }
    let forecasts = ForecastJudgement(results.map(\.record)).lines
    if !forecasts.isEmpty { lines += forecasts + [""] }
    lines += MatrixFigure.legend
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

  private static func figures(_ comparison: MatrixComparison) -> [String] {
    var rows = [["METHOD", "DONE"] + comparison.figures.map(\.title)]
    for method in comparison.methods {
      let (done, count) = comparison.doneCount(method)
      rows.append(
        [method, "\(done)/\(count)"]
          + comparison.figures.map { figure in
            text(comparison.estimate(figure, method), figure.text)
          })
    }
    return ResultTable.format(rows)
  }

  private static func ratios(_ comparison: MatrixComparison) -> [String] {
    let own = comparison.methods.filter { !MatrixComparison.isRival($0) }
    let figures = comparison.figures.filter(\.hasRatio)
    let rivals = figures.map(comparison.bestRival)
    guard !own.isEmpty, rivals.contains(where: { $0 != nil }) else { return [] }
    let titles = zip(figures, rivals).map { figure, rival in
      figure.title + (rival.map { " (\($0.dropFirst(Rival.prefix.count)))" } ?? "")
    }
    let rows = own.map { method in
      [method]
        + zip(figures, rivals).map { figure, rival in
          let ratio = rival.flatMap { comparison.ratio(figure, method, to: $0) }
          return text(ratio) { $0.isFinite ? hundredths($0) : "never" }
        }
    }
    return ResultTable.format([["METHOD"] + titles] + rows)
  }

  private static func text(_ estimate: Estimate?, _ format: (Double) -> String) -> String {
    guard let estimate else { return "-" }
    guard let low = estimate.low, let high = estimate.high else { return format(estimate.median) }
    return "\(format(estimate.median)) [\(format(low)), \(format(high))]"
  }

  /// `0.98`.
  static func hundredths(_ value: Double) -> String {
    let whole = UInt64(max(min((value * 100).rounded(), 1e15), 0))
    let rest = whole % 100
    return "\(whole / 100).\(rest < 10 ? "0" : "")\(rest)"
  }
}
