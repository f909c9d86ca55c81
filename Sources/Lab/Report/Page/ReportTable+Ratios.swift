extension ReportTable {
  /// All that there is beside a guest's figures.
  static func further(_ comparison: MatrixComparison) -> [ReportTable] {
    [controlRatios(comparison), ratios(comparison), plainRatios(comparison), pulls(comparison)]
      .compactMap(\.self)
  }

  /// Godwit's methods over QEMU's best in each figure; nil when there is nothing to compare.
  static func ratios(_ comparison: MatrixComparison) -> ReportTable? {
    // What no rival has and not every move is no column.
    let figures = comparison.figures.filter {
      $0.hasRatio && ($0.isOfEveryMove || comparison.bestRival($0) != nil)
    }
    let own = comparison.methods.filter(MatrixComparison.isOwn)
    let rivals = figures.map(comparison.bestRival)
    guard !own.isEmpty, rivals.contains(where: { $0 != nil }) else { return nil }
    let titles = zip(figures, rivals).map { figure, rival in
      figure.title.lowercased()
        + (rival.map { " to \($0.dropFirst(Rival.prefix.count))" } ?? "")
    }
    let rows = own.map { method in
      let cells = zip(figures, rivals).map { figure, rival in
        cell(rival.flatMap { comparison.ratio(figure, method, to: $0) })
      }
      return (name: method, cells: cells)
    }
    return ReportTable(
      name: ReportText.slug("\(comparison.guest)-\(comparison.qemu)-ratios"),
      title: "Ratio to QEMU's best way", header: ["method"] + titles, rows: rows)
  }

  /// What making pages small is worth: methods over the same ones without it; nil where no pair was measured.
  static func plainRatios(_ comparison: MatrixComparison) -> ReportTable? {
    let figures = comparison.figures.filter(\.hasRatio)
    let rows = comparison.methods.compactMap { method -> (name: String, cells: [Cell])? in
      comparison.plain(of: method).map { plain in
        (method, figures.map { cell(comparison.ratio($0, method, to: plain)) })
      }
    }
    guard !rows.isEmpty else { return nil }
    return ReportTable(
      name: ReportText.slug("\(comparison.guest)-\(comparison.qemu)-plain-ratios"),
      title: "Ratio to the same way without making pages small",
      header: ["method"] + figures.map { $0.title.lowercased() }, rows: rows)
  }

  static func cell(_ ratio: Estimate?) -> Cell {
    Cell(
      text: text(ratio) { $0.isFinite ? MatrixTable.hundredths($0) : "never" },
      value: ratio.flatMap { $0.median.isFinite ? $0.median : nil }, ratio: ratio)
  }
}

extension Estimate {
  /// Of a ratio: whether all of its interval is on one side of 1; nil without an interval, which claims nothing.
  var verdict: String? {
    guard let low, let high else { return nil }
    return high < 1 ? "better" : low > 1 ? "worse" : "same"
  }
}
