/// The same stretch of time of several runs, in strips one above the other: bars that touch, and a mark behind them. Pure.
struct StripPlot {
  struct Strip {
    var name: String
    /// At the other end of the line above the strip.
    var text: String
    var colour: Int
    /// By rising x, each `bucket` long.
    var values: [(x: Double, y: Double)]
    /// What is marked.
    var mark: ClosedRange<Double>
  }

  var title, xTitle: String
  /// What of x is shown, and where its axis has words.
  var range: ClosedRange<Double>
  var ticks: [Double]
  /// How long each value lasts.
  var bucket: Double
  /// Values above it are cut.
  var high: Double
  /// To compare with.
  var level: Double
  var xText: (Double) -> String
  var yText: (Double) -> String
  var strips: [Strip]

  private static let (width, left, right) = (520.0, 52.0, 12.0)
  private static let (nameHeight, stripHeight, space) = (20.0, 60.0, 8.0)
  private var plotWidth: Double { Self.width - Self.left - Self.right }

  var svg: String {
    var parts: [String] = []
    let pitch = Self.nameHeight + Self.stripHeight + Self.space
    for (index, strip) in strips.enumerated() {
      parts += draw(strip, top: Double(index) * pitch)
    }
    let bottom = Double(strips.count) * pitch - Self.space
    for tick in ticks {
      let at = place(tick)
      parts.append(SVG.line(at, bottom, at, bottom + 4, style: "axis"))
      parts.append(SVG.text(at, bottom + 18, xText(tick), anchor: .middle, style: "faint"))
    }
    parts.append(
      SVG.text(Self.width - Self.right, bottom + 35, xTitle, anchor: .end, style: "faint"))
    return SVG.picture(Self.width, bottom + 42, title: title, parts)
  }

  private func place(_ x: Double) -> Double {
    let share = (x - range.lowerBound) / (range.upperBound - range.lowerBound)
    return Self.left + max(min(share, 1), 0) * plotWidth
  }

  private func height(_ y: Double) -> Double { max(min(y / high, 1), 0) * Self.stripHeight }

  private func draw(_ strip: Strip, top: Double) -> [String] {
    let bottom = top + Self.nameHeight + Self.stripHeight
    let end = Self.width - Self.right
    let (from, to) = (place(strip.mark.lowerBound), place(strip.mark.upperBound))
    var parts = [
      SVG.text(Self.left, top + 14, strip.name),
      SVG.text(end, top + 14, strip.text, anchor: .end, style: "faint"),
      SVG.rectangle(
        from, top + Self.nameHeight, max(to - from, 1), Self.stripHeight, style: "pause",
        title: strip.text),
    ]
    for y in [0, level] {
      parts.append(
        SVG.text(Self.left - 6, bottom - height(y) + 4, yText(y), anchor: .end, style: "faint"))
    }
    if let area = area(strip, bottom: bottom) { parts.append(area) }
    parts.append(
      SVG.line(Self.left, bottom - height(level), end, bottom - height(level), style: "mark"))
    parts.append(SVG.line(Self.left, bottom, end, bottom, style: "axis"))
    return parts
  }

  /// Steps from value to value; nil without any.
  private func area(_ strip: Strip, bottom: Double) -> String? {
    guard let first = strip.values.first, let last = strip.values.last else { return nil }
    var steps = "M\(SVG.number(place(first.x))) \(SVG.number(bottom))"
    var before: Double?
    for value in strip.values {
      let y = height(value.y)
      guard y != before else { continue }
      if before != nil { steps += "H\(SVG.number(place(value.x)))" }
      steps += "V\(SVG.number(bottom - y))"
      before = y
    }
    steps += "H\(SVG.number(place(last.x + bucket)))V\(SVG.number(bottom))Z"
    return "<path d=\"\(steps)\" class=\"f\(strip.colour % SVG.colourCount)\"><title>"
      + "\(SVG.escape(strip.name))</title></path>"
  }
}
