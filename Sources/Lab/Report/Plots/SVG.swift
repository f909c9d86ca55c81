/// Pieces of SVG text. Pure.
///
/// Colours are classes, so that a plot follows the page it is in, or its reader's choice of light or dark.
enum SVG {
  /// Series that have a colour of their own.
  static let colourCount = 10

  static func escape(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      default: result.append(character)
      }
    }
    return result
  }

  /// One decimal is as fine as a pixel needs.
  static func number(_ value: Double) -> String {
    guard value.isFinite else { return "0" }
    let tenths = Int((max(min(value, 1e6), -1e6) * 10).rounded())
    let (whole, rest) = (abs(tenths) / 10, abs(tenths) % 10)
    return "\(tenths < 0 ? "-" : "")\(whole)\(rest == 0 ? "" : ".\(rest)")"
  }

  enum Anchor: String { case start, middle, end }

  /// About how wide a text is in a plot: fonts differ, and this is the width of wide ones.
  static func width(of text: String) -> Double { Double(text.count) * 7.5 }

  static func text(
    _ x: Double, _ y: Double, _ text: String, anchor: Anchor = .start, style: String = "label"
  ) -> String {
    "<text x=\"\(number(x))\" y=\"\(number(y))\" text-anchor=\"\(anchor.rawValue)\" "
      + "class=\"\(style)\">\(escape(text))</text>"
  }

  static func line(
    _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, style: String
  ) -> String {
    "<line x1=\"\(number(x1))\" y1=\"\(number(y1))\" x2=\"\(number(x2))\" y2=\"\(number(y2))\" "
      + "class=\"\(style)\"/>"
  }

  static func rectangle(
    _ x: Double, _ y: Double, _ width: Double, _ height: Double, style: String, title: String = ""
  ) -> String {
    let inner = title.isEmpty ? "" : "<title>\(escape(title))</title>"
    return "<rect x=\"\(number(x))\" y=\"\(number(y))\" width=\"\(number(max(width, 0)))\" "
      + "height=\"\(number(height))\" class=\"\(style)\">\(inner)</rect>"
  }

  static func path(_ points: [(x: Double, y: Double)], style: String, title: String) -> String {
    let steps = points.enumerated().map { index, point in
      "\(index == 0 ? "M" : "L")\(number(point.x)) \(number(point.y))"
    }
    return "<path d=\"\(steps.joined())\" class=\"\(style)\"><title>\(escape(title))</title></path>"
  }

  static func circle(_ x: Double, _ y: Double, _ radius: Double, style: String, title: String)
    -> String
  {
    "<circle cx=\"\(number(x))\" cy=\"\(number(y))\" r=\"\(number(radius))\" class=\"\(style)\">"
      + "<title>\(escape(title))</title></circle>"
  }

  /// As narrow as a picture may get, on a phone: smaller, and nobody could read it. Of a wide one, as a share of its width.
  private static let (leastWidth, leastShare) = (354.0, 0.68)

  /// A whole picture; `title` is what a screen reader says of it. In a page it is never larger than it was drawn.
  static func picture(_ width: Double, _ height: Double, title: String, _ parts: [String]) -> String
  {
    let least = max(min(width, leastWidth), width * leastShare)
    return
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(number(width)) \(number(height))\" "
      + "width=\"\(number(width))\" height=\"\(number(height))\" "
      + "style=\"max-width:\(number(width))px;min-width:\(number(least))px\" role=\"img\" aria-label=\"\(escape(title))\"><title>\(escape(title))</title>\n"
      + parts.joined(separator: "\n") + "\n</svg>"
  }

  /// The same as a file of its own, with its colours.
  static func file(_ picture: String) -> String {
    guard let end = picture.firstIndex(of: ">") else { return picture }
    return picture[...end] + "<style>\(PlotStyle.css)</style>"
      + picture[picture.index(after: end)...]
      + "\n"
  }
}
