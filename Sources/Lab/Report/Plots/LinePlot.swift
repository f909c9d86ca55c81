/// Curves over time. Pure.
struct LinePlot {
  struct Series {
    var name: String
    var colour: Int
    /// Drawn dashed: one of QEMU's own ways.
    var isRival: Bool
    /// By rising x.
    var points: [(x: Double, y: Double)]
  }

  var title, xTitle, yTitle: String
  var series: [Series]
  var xText: (Double) -> String
  var yText: (Double) -> String
  /// A level to compare with.
  var level: Double?

  static let width = 520.0
  /// Points of a curve; more are thinned out evenly.
  static let pointsMax = 600
  private static let (left, right, top, plotHeight) = (64.0, 12.0, 24.0, 220.0)
  private static let (legendLeft, legendRow) = (10.0, 18.0)

  /// As many as there is room for beside the longest name.
  private var legendColumns: Int {
    let widest = series.map { SVG.width(of: $0.name) }.max() ?? 0
    return min(max(Int((Self.width - Self.legendLeft) / (widest + 44)), 1), 4)
  }

  var svg: String {
    let x = PlotScale(series.flatMap { $0.points.map(\.x) }, tickCount: 6)
    let y = PlotScale(series.flatMap { $0.points.map(\.y) } + [level ?? 0])
    let plotWidth = Self.width - Self.left - Self.right
    let bottom = Self.top + Self.plotHeight
    let place = { (point: (x: Double, y: Double)) in
      (
        x: Self.left + x.place(point.x, on: plotWidth),
        y: bottom - y.place(point.y, on: Self.plotHeight)
      )
    }
    var parts: [String] = []
    for tick in y.ticks {
      let at = bottom - y.place(tick, on: Self.plotHeight)
      parts.append(SVG.line(Self.left, at, Self.width - Self.right, at, style: "grid"))
      parts.append(SVG.text(Self.left - 6, at + 4, yText(tick), anchor: .end, style: "faint"))
    }
    for tick in x.ticks {
      let at = Self.left + x.place(tick, on: plotWidth)
      parts.append(SVG.line(at, bottom, at, bottom + 4, style: "axis"))
      parts.append(SVG.text(at, bottom + 18, xText(tick), anchor: .middle, style: "faint"))
    }
    parts.append(SVG.line(Self.left, bottom, Self.width - Self.right, bottom, style: "axis"))
    if let level {
      let at = bottom - y.place(level, on: Self.plotHeight)
      parts.append(SVG.line(Self.left, at, Self.width - Self.right, at, style: "mark"))
    }
    for curve in series {
      let style = "\(curve.isRival ? "d" : "l")\(curve.colour % SVG.colourCount)"
      parts.append(
        SVG.path(Self.thinned(curve.points).map(place), style: style, title: curve.name))
    }
    parts.append(SVG.text(Self.left - 58, Self.top - 12, yTitle, style: "faint"))
    parts.append(
      SVG.text(Self.width - Self.right, bottom + 34, xTitle, anchor: .end, style: "faint"))
    parts += legend(from: bottom + 54)
    let rows = (series.count + legendColumns - 1) / legendColumns
    return SVG.picture(
      Self.width, bottom + 48 + Double(rows) * Self.legendRow, title: title, parts)
  }

  private func legend(from top: Double) -> [String] {
    let columns = legendColumns
    let column = (Self.width - Self.legendLeft) / Double(columns)
    return series.enumerated().flatMap { index, curve in
      let x = Self.legendLeft + Double(index % columns) * column
      let y = top + Double(index / columns) * Self.legendRow
      let style = "\(curve.isRival ? "d" : "l")\(curve.colour % SVG.colourCount)"
      return [
        SVG.line(x, y - 4, x + 22, y - 4, style: style), SVG.text(x + 28, y, curve.name),
      ]
    }
  }

  /// The highest and the lowest point of each of equally long parts, so that no dip gets lost.
  static func thinned(_ points: [(x: Double, y: Double)]) -> [(x: Double, y: Double)] {
    guard points.count > pointsMax else { return points }
    let part = (points.count * 2 + pointsMax - 1) / pointsMax
    return stride(from: 0, to: points.count, by: part).flatMap { start in
      let slice = points[start..<min(start + part, points.count)]
      let ends = [slice.min { $0.y < $1.y }, slice.max { $0.y < $1.y }].compactMap(\.self)
      return ends.sorted { $0.x < $1.x }
    }
  }
}
