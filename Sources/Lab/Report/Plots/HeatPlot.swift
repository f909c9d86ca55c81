/// Ratios as a matrix of cells with their numbers in them: the bluer, the better, the more orange, the worse. A cell whose
/// interval is not on one side of 1 is hatched: nothing follows from it. Pure.
///
/// Blue and orange are told apart by nearly everyone who sees colours differently.
struct HeatPlot {
  struct Column {
    var name: String
    /// Below it: what the ratios are to. May differ between columns.
    var note: String
  }

  struct Cell {
    /// Infinite: never reached.
    var ratio: Estimate
    /// What a pointer is told.
    var title: String
  }

  struct Row {
    var name: String
    /// One a column; nil: not measured.
    var cells: [Cell?]
  }

  var title: String
  var columns: [Column]
  var rows: [Row]

  /// Where one shade ends and the next begins; about 1 is none.
  static let bounds = [0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 2, 3.3]

  private static let (top, rowHeight, margin) = (42.0, 27.0, 8.0)
  private static let (swatchWidth, swatchHeight) = (34.0, 14.0)
  /// The legend's, below the cells.
  private static let (legendHeight, leastWidth) = (82.0, 440.0)

  static func shade(_ ratio: Double) -> Int {
    bounds.firstIndex { ratio < $0 } ?? bounds.count
  }

  private var left: Double {
    let widest = rows.map { SVG.width(of: $0.name) }.max() ?? 0
    return min(max(widest + 16, 96), 280)
  }

  private var columnWidth: Double {
    let widest = columns.map { max(SVG.width(of: $0.name), SVG.width(of: $0.note)) }.max() ?? 0
    return min(max(widest + 10, 72), 160)
  }

  var width: Double {
    max(left + Double(columns.count) * columnWidth + Self.margin, Self.leastWidth)
  }

  var svg: String {
    var parts: [String] = []
    for (index, column) in columns.enumerated() {
      let middle = left + (Double(index) + 0.5) * columnWidth
      parts.append(SVG.text(middle, 16, column.name, anchor: .middle))
      parts.append(SVG.text(middle, 33, column.note, anchor: .middle, style: "faint"))
    }
    for (index, row) in rows.enumerated() {
      let y = Self.top + Double(index) * Self.rowHeight
      parts.append(SVG.text(left - 8, y + Self.rowHeight / 2 + 4, row.name, anchor: .end))
      for (column, cell) in row.cells.enumerated() {
        parts += draw(cell, left + Double(column) * columnWidth, y)
      }
    }
    let bottom = Self.top + Double(rows.count) * Self.rowHeight
    parts += legend(from: bottom + 18)
    return SVG.picture(width, bottom + Self.legendHeight, title: title, parts)
  }

  private func draw(_ cell: Cell?, _ x: Double, _ y: Double) -> [String] {
    let (middle, base) = (x + columnWidth / 2, y + Self.rowHeight / 2 + 4)
    guard let cell else { return [SVG.text(middle, base, "–", anchor: .middle, style: "faint")] }
    let (width, height) = (columnWidth - 2, Self.rowHeight - 2)
    let shade = Self.shade(cell.ratio.median)
    let text = cell.ratio.median.isFinite ? MatrixTable.hundredths(cell.ratio.median) : "never"
    guard ["better", "worse"].contains(cell.ratio.verdict) else {
      return Self.hatched(x + 1, y + 1, width, height, shade: shade, title: cell.title)
        + [SVG.text(middle, base, text, anchor: .middle, style: "over")]
    }
    return [
      SVG.rectangle(x + 1, y + 1, width, height, style: "h\(shade)", title: cell.title),
      SVG.text(middle, base, text, anchor: .middle),
    ]
  }

  /// Lines of its own, for a pattern would need a name that no other picture of the page has.
  private static func hatched(
    _ x: Double, _ y: Double, _ width: Double, _ height: Double, shade: Int, title: String
  ) -> [String] {
    let lines = stride(from: 7.0, to: width + height, by: 7).map { at in
      let (fromX, fromY) = (min(at, width), max(at - width, 0))
      let (toX, toY) = (max(at - height, 0), min(at, height))
      return "M\(SVG.number(x + fromX)) \(SVG.number(y + fromY))"
        + "L\(SVG.number(x + toX)) \(SVG.number(y + toY))"
    }
    return [
      "<path d=\"\(lines.joined())\" class=\"e\(shade)\"/>",
      // Over the lines, for its title.
      SVG.rectangle(x, y, width, height, style: "b\(shade)", title: title),
    ]
  }

  private func legend(from top: Double) -> [String] {
    let start = 60.0
    var parts = [
      SVG.text(start - 8, top + 12, "better", anchor: .end, style: "faint"),
      SVG.text(
        start + Double(Self.bounds.count + 1) * Self.swatchWidth + 8, top + 12, "worse",
        style: "faint"),
    ]
    for shade in 0...Self.bounds.count {
      let x = start + Double(shade) * Self.swatchWidth
      parts.append(
        SVG.rectangle(x, top, Self.swatchWidth, Self.swatchHeight, style: "h\(shade)"))
    }
    for (index, bound) in Self.bounds.enumerated() {
      parts.append(
        SVG.text(
          start + Double(index + 1) * Self.swatchWidth, top + 29, SVG.number(bound),
          anchor: .middle, style: "faint"))
    }
    parts += Self.hatched(
      start, top + 40, Self.swatchWidth, Self.swatchHeight, shade: 1, title: "")
    parts.append(
      SVG.text(
        start + Self.swatchWidth + 8, top + 52, "the interval includes 1, or there is none",
        style: "faint"))
    return parts
  }
}
