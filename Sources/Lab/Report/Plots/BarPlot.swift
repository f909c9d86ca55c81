/// Bars side by side from left to right, one row each, with an interval; or in parts. Pure.
struct BarPlot {
  struct Part {
    var name: String
    var value: Double
    var colour: Int
  }

  struct Row {
    var name: String
    var parts: [Part]
    /// Of the whole bar.
    var low, high: Double?
    /// What stands behind the bar.
    var text: String
    /// The value was never reached: an open bar to the end.
    var isOpen = false
  }

  var title: String
  var rows: [Row]
  var tickText: (Double) -> String
  /// What the parts are, where a bar has several.
  var showsLegend = false

  private static let (width, top) = (520.0, 6.0)
  private static let (rowHeight, barHeight) = (24.0, 15.0)
  private static let (legendColumns, legendRow) = (4, 18.0)

  /// Room for the names, and for what stands behind the bars.
  private var left: Double { room(rows.map(\.name), 96...280) }
  private var right: Double { room(rows.map(\.text), 64...200) }

  private func room(_ texts: [String], _ range: ClosedRange<Double>) -> Double {
    let widest = texts.map(SVG.width(of:)).max() ?? 0
    return min(max(widest + 16, range.lowerBound), range.upperBound)
  }

  var svg: String {
    let ends: [Double] = rows.map { row in
      max(row.parts.reduce(0) { $0 + $1.value }, row.high ?? 0)
    }
    // Few ticks: sizes and times are long words.
    let scale = PlotScale(ends, tickCount: 3)
    let length = Self.width - left - right
    let bottom = Self.top + Double(rows.count) * Self.rowHeight
    var parts: [String] = []
    for tick in scale.ticks {
      let at = left + scale.place(tick, on: length)
      parts.append(SVG.line(at, Self.top, at, bottom, style: "grid"))
      parts.append(SVG.text(at, bottom + 16, tickText(tick), anchor: .middle, style: "faint"))
    }
    for (index, row) in rows.enumerated() {
      parts += bar(row, top: Self.top + Double(index) * Self.rowHeight, scale, length)
    }
    var height = bottom + 24
    if showsLegend {
      let names = legendParts
      parts += legend(names, from: bottom + 40)
      let lines = (names.count + Self.legendColumns - 1) / Self.legendColumns
      height += 12 + Double(lines) * Self.legendRow
    }
    return SVG.picture(Self.width, height, title: title, parts)
  }

  private func bar(_ row: Row, top: Double, _ scale: PlotScale, _ length: Double) -> [String] {
    let middle = top + Self.rowHeight / 2
    let barTop = middle - Self.barHeight / 2
    var parts = [SVG.text(left - 8, middle + 4, row.name, anchor: .end)]
    guard !row.isOpen else {
      parts.append(
        SVG.rectangle(left, barTop, length, Self.barHeight, style: "never", title: row.text))
      parts.append(SVG.text(left + length + 8, middle + 4, row.text))
      return parts
    }
    var end = 0.0
    for part in row.parts where part.value > 0 {
      let from = scale.place(end, on: length)
      end += part.value
      parts.append(
        SVG.rectangle(
          left + from, barTop, scale.place(end, on: length) - from, Self.barHeight,
          style: "f\(part.colour % SVG.colourCount)", title: "\(row.name): \(part.name)"))
    }
    if let low = row.low, let high = row.high {
      let (from, to) = (scale.place(low, on: length), scale.place(high, on: length))
      parts.append(SVG.line(left + from, middle, left + to, middle, style: "whisker"))
      for at in [from, to] {
        parts.append(
          SVG.line(left + at, middle - 4, left + at, middle + 4, style: "whisker"))
      }
    }
    parts.append(SVG.text(left + length + 8, middle + 4, row.text))
    return parts
  }

  private var legendParts: [Part] {
    var seen: Set<String> = []
    return rows.flatMap(\.parts).filter { $0.value > 0 && seen.insert($0.name).inserted }
      .sorted { $0.colour < $1.colour }
  }

  private func legend(_ parts: [Part], from top: Double) -> [String] {
    let column = (Self.width - 20) / Double(Self.legendColumns)
    return parts.enumerated().flatMap { index, part in
      let x = 10 + Double(index % Self.legendColumns) * column
      let y = top + Double(index / Self.legendColumns) * Self.legendRow
      return [
        SVG.rectangle(x, y - 10, 12, 12, style: "f\(part.colour % SVG.colourCount)"),
        SVG.text(x + 18, y, part.name),
      ]
    }
  }
}
