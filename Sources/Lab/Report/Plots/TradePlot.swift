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

  /// Of all of it, and of the plot.
  private static let (whole, height) = (520.0, 260.0)
  private static let (left, top) = (84.0, 26.0)
  private static let nameHeight = 14.0

  /// Names that stand to the right of their points need room.
  private var right: Double {
    min(max((points.map { SVG.width(of: $0.name) }.max() ?? 0) + 20, 60), 240)
  }
  private var width: Double { Self.whole - Self.left - right }

  var svg: String {
    let (xScale, yScale) = (
      PlotScale(points.map(\.x), tickCount: 3), PlotScale(points.map(\.y))
    )
    let bottom = Self.top + Self.height
    var parts: [String] = []
    for tick in yScale.ticks {
      let y = bottom - yScale.place(tick, on: Self.height)
      parts.append(SVG.line(Self.left, y, Self.left + width, y, style: "grid"))
      parts.append(SVG.text(Self.left - 6, y + 4, yText(tick), anchor: .end, style: "faint"))
    }
    for tick in xScale.ticks {
      let x = Self.left + xScale.place(tick, on: width)
      parts.append(SVG.line(x, Self.top, x, bottom, style: "grid"))
      parts.append(SVG.text(x, bottom + 18, xText(tick), anchor: .middle, style: "faint"))
    }
    let places = points.map { point in
      (
        x: Self.left + xScale.place(point.x, on: width),
        y: bottom - yScale.place(point.y, on: Self.height)
      )
    }
    for (point, place) in zip(points, places) {
      parts.append(
        SVG.circle(
          place.x, place.y, 5, style: "f\(point.colour % SVG.colourCount)",
          title: "\(point.name): \(xText(point.x)), \(yText(point.y))"))
    }
    for (name, x, y) in names(places) { parts.append(SVG.text(x, y, name)) }
    parts.append(SVG.text(Self.left - 76, Self.top - 12, yTitle, style: "faint"))
    parts.append(
      SVG.text(Self.left + width, bottom + 36, xTitle, anchor: .end, style: "faint"))
    return SVG.picture(Self.whole, bottom + 44, title: title, parts)
  }

  /// Where names stand: beside their points, or as far above as it takes not to stand on another one.
  private func names(
    _ places: [(x: Double, y: Double)]
  ) -> [(name: String, x: Double, y: Double)] {
    var placed: [(name: String, x: Double, y: Double)] = []
    for index in points.indices.sorted(by: { places[$0].y > places[$1].y }) {
      let name = points[index].name
      let (x, width) = (places[index].x + 9, SVG.width(of: name))
      var y = places[index].y + 4
      // From below to above, so that what is in the way is always lower.
      for other in placed.sorted(by: { $0.y > $1.y })
      where other.x < x + width && x < other.x + SVG.width(of: other.name) {
        if abs(y - other.y) < Self.nameHeight { y = other.y - Self.nameHeight }
      }
      placed.append((name, x, y))
    }
    return placed
  }
}
