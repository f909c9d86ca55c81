extension ReportPlot {
  /// Of the matrix of ratios, where they were measured.
  private static let matrixFigures: [MatrixFigure] = [.total, .downtime, .gap, .wire, .latency]

  /// Godwit's methods over QEMU's best way: methods and guests, a picture for each figure; of one guest, all figures in
  /// one picture.
  static func matrices(_ comparisons: [MatrixComparison]) -> [ReportPlot] {
    guard comparisons.count == 1, let only = comparisons.first else {
      let names = Set(comparisons.map(\.guest)).count
      return matrixFigures.compactMap { figure in
        matrix(
          "ratios-\(figure.rawValue)", title: "\(ReportText.title(figure)), to QEMU's best",
          columns: comparisons.map { comparison in
            let isAlone = names == comparisons.count
            return MatrixColumn(
              name: comparison.guest + (isAlone ? "" : ", \(comparison.qemu)"),
              comparison: comparison, figure: figure)
          })
      }
    }
    return [
      matrix(
        "ratios", title: "Ratios to QEMU's best, \(only.guest)",
        columns: matrixFigures.map { figure in
          MatrixColumn(name: figure.title.lowercased(), comparison: only, figure: figure)
        })
    ].compactMap(\.self)
  }

  /// What of Godwit's stands in a column, each estimated once.
  private struct MatrixColumn {
    var name: String
    /// QEMU's best there; nil: nothing to compare with.
    let rival: String?
    let ratios: [String: Estimate]

    init(name: String, comparison: MatrixComparison, figure: MatrixFigure) {
      self.name = name
      rival = comparison.bestRival(figure)
      var ratios: [String: Estimate] = [:]
      if let rival {
        for method in comparison.methods where MatrixComparison.isOwn(method) {
          ratios[method] = comparison.ratio(figure, method, to: rival)
        }
      }
      self.ratios = ratios
    }
  }

  private static func matrix(
    _ name: String, title: String, columns all: [MatrixColumn]
  ) -> ReportPlot? {
    let columns = all.filter { !$0.ratios.isEmpty }
    let methods = Set(columns.flatMap(\.ratios.keys))
    guard !methods.isEmpty else { return nil }
    let rows = methods.sorted().map { method in
      HeatPlot.Row(
        name: method,
        cells: columns.map { column in
          column.ratios[method].map { ratio in
            let text = ReportTable.text(ratio) {
              $0.isFinite ? MatrixTable.hundredths($0) : "never"
            }
            return HeatPlot.Cell(
              ratio: ratio,
              title: "\(method), \(column.name): \(text) of \(column.rival ?? "nothing")")
          }
        })
    }
    let plot = HeatPlot(
      title: title,
      columns: columns.map { column in
        let rival = column.rival.map { "to \($0.dropFirst(Rival.prefix.count))" }
        return HeatPlot.Column(name: column.name, note: rival ?? "")
      }, rows: rows)
    return ReportPlot(
      name: name, title: title,
      note:
        "Medians of ratios within a round: below 1 is better. Below a column's name stands which of QEMU's ways is"
        + " the best there. From what is hatched nothing follows.",
      svg: plot.svg, isLow: plot.width <= 560, isWide: plot.width > 560)
  }
}
