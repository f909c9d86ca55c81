/// What was foretold against what came, with the diagonal where both agree. Pure.
struct ScatterPlot {
  struct Point {
    var name: String
    /// Whose point it is, for the legend.
    var method: String
    var x, y: Double
    var lowX, highX: Double?
    var colour: Int
  }

  var title, xTitle, yTitle: String
  var points: [Point]
  var text: (Double) -> String

  private static let (side, left, top, right) = (320.0, 74.0, 26.0, 24.0)
  private static let legendRow = 18.0

  var svg: String {
    let scale = PlotScale(points.flatMap { [$0.x, $0.y, $0.highX ?? 0] }, tickCount: 4)
    let bottom = Self.top + Self.side
    var parts: [String] = []
    for tick in scale.ticks {
      let at = scale.place(tick, on: Self.side)
      parts.append(
        SVG.line(Self.left, bottom - at, Self.left + Self.side, bottom - at, style: "grid"))
      parts.append(
        SVG.text(Self.left - 6, bottom - at + 4, text(tick), anchor: .end, style: "faint"))
      parts.append(
        SVG.text(Self.left + at, bottom + 18, text(tick), anchor: .middle, style: "faint"))
    }
    parts.append(
      SVG.line(Self.left, bottom, Self.left + Self.side, Self.top, style: "mark"))
    for point in points {
      let (x, y) = (
        Self.left + scale.place(point.x, on: Self.side),
        bottom - scale.place(point.y, on: Self.side)
      )
      if let low = point.lowX, let high = point.highX {
        parts.append(
          SVG.line(
            Self.left + scale.place(low, on: Self.side), y,
            Self.left + scale.place(high, on: Self.side), y,
            style: "l\(point.colour % SVG.colourCount)"))
      }
      parts.append(
        SVG.circle(
          x, y, 4, style: "f\(point.colour % SVG.colourCount)",
          title: "\(point.name): \(text(point.x)) foretold, \(text(point.y)) seen"))
    }
    parts.append(SVG.text(Self.left - 60, Self.top - 12, yTitle, style: "faint"))
    parts.append(
      SVG.text(Self.left + Self.side, bottom + 36, xTitle, anchor: .end, style: "faint"))
    var seen: Set<String> = []
    let methods = points.filter { seen.insert($0.method).inserted }.sorted { $0.colour < $1.colour }
    for (index, point) in methods.enumerated() {
      let y = bottom + 58 + Double(index) * Self.legendRow
      parts.append(
        SVG.circle(
          Self.left + 4, y - 4, 4, style: "f\(point.colour % SVG.colourCount)",
          title: point.method))
      parts.append(SVG.text(Self.left + 16, y, point.method))
    }
    return SVG.picture(
      Self.left + Self.side + Self.right, bottom + 50 + Double(methods.count) * Self.legendRow,
      title: title, parts)
  }
}
