extension ReportTable {
  /// What a disk's clients had beside the same set-up with nothing moving, so that what a surrogate or a cache does by
  /// itself isn't a method's merit; nil where nothing was measured without a move.
  static func controlRatios(_ comparison: MatrixComparison) -> ReportTable? {
    let figures: [MatrixFigure] = [.rate, .latency, .tail]
    let (still, idle) = (DiskMethod.still.rawValue, DiskMethod.waioIdle.rawValue)
    guard comparison.methods.contains(still) else { return nil }
    var pairs = comparison.methods.filter { $0 != still }.map { (method: $0, control: still) }
    if comparison.methods.contains(idle) {
      let waio = DiskMethod.waio.rawValue
      pairs += comparison.methods.filter { $0 == waio || $0.hasPrefix(waio + "+") }.map {
        (method: $0, control: idle)
      }
    }
    let rows = pairs.map { method, control in
      let cells = figures.map { figure -> Cell in
        var ratio = Self.cell(comparison.ratio(figure, method, to: control))
        // More of it is better: the colours would say the opposite.
        if figure == .rate { ratio.ratio = nil }
        return ratio
      }
      return (name: control == still ? method : "\(method) to \(control)", cells: cells)
    }
    return ReportTable(
      name: ReportText.slug("\(comparison.guest)-\(comparison.qemu)-control"),
      title: "Ratio to the same clients while nothing moves",
      header: ["method"] + figures.map { $0.title.lowercased() }, rows: rows)
  }
}
