/// Two figures of each method against each other, with the method's name beside its point: what one costs in the
/// other. Near the corner is better. Pure.
struct TradePlot {
  struct Point {
    var name: String
    var x, y: Double
    var colour: Int
  }

  var title, xTitle, yTitle: String
  var points: [Point]
  var xText, yText: (Double) -> String

  /// Names that stand to the right of their points need room.
  private static let (width, height) = (420.0, 260.0)
  private static let (left, top, right) = (84.0, 26.0, 190.0)

  var svg: String {
    let (xScale, yScale) = (PlotScale(points.map(\.x)), PlotScale(points.map(\.y)))
    let bottom = Self.top + Self.height
    var parts: [String] = []
    for tick in yScale.ticks {
      let y = bottom - yScale.place(tick, on: Self.height)
      parts.append(SVG.line(Self.left, y, Self.left + Self.width, y, style: "grid"))
      parts.append(SVG.text(Self.left - 6, y + 4, yText(tick), anchor: .end, style: "faint"))
    }
    for tick in xScale.ticks {
      let x = Self.left + xScale.place(tick, on: Self.width)
      parts.append(SVG.line(x, Self.top, x, bottom, style: "grid"))
      parts.append(SVG.text(x, bottom + 18, xText(tick), anchor: .middle, style: "faint"))
    }
    for point in points {
      let x = Self.left + xScale.place(point.x, on: Self.width)
      let y = bottom - yScale.place(point.y, on: Self.height)
      parts.append(
        SVG.circle(
          x, y, 5, style: "f\(point.colour % SVG.colourCount)",
          title: "\(point.name): \(xText(point.x)), \(yText(point.y))"))
      parts.append(SVG.text(x + 9, y + 4, point.name))
    }
    parts.append(SVG.text(Self.left - 76, Self.top - 12, yTitle, style: "faint"))
    parts.append(
      SVG.text(Self.left + Self.width, bottom + 36, xTitle, anchor: .end, style: "faint"))
    return SVG.picture(
      Self.left + Self.width + Self.right, bottom + 44, title: title, parts)
  }
}
