/// Colours and lines of plots, for light and dark. The series' colours keep apart for most who see colours
/// differently, and on both backgrounds.
enum PlotStyle {
  private static let light = [
    "#1f6feb", "#d1480c", "#1a7f37", "#8250df", "#bf3989", "#0a7d8c", "#9a6700", "#57606a",
    "#cf222e",
    "#3b5c1f",
  ]
  private static let dark = [
    "#6cb0ff", "#ff9a5c", "#5bd67a", "#c49bff", "#ff8cc9", "#4fd3e3", "#e3b341", "#a9b4c0",
    "#ff7b72",
    "#a5d06a",
  ]

  /// From much better over about equal to much worse. The ink can be read on all of them.
  private static let lightShades = [
    "#5a9bd8", "#86b7e4", "#b0d0ef", "#d6e6f5", "#e6eaee", "#fbe3cf", "#f8c79a", "#f2a865",
    "#e58a3a",
  ]
  private static let darkShades = [
    "#1c65b3", "#1d5590", "#1c446f", "#1b344f", "#2b323b", "#4a3320", "#6b4420", "#84501f",
    "#9c5619",
  ]

  /// Of every plot, in a page or alone.
  static let css: String = {
    let names = { (colours: [String], shades: [String]) in
      colours.enumerated().map { "--c\($0): \($1);" }.joined()
        + shades.enumerated().map { "--h\($0): \($1);" }.joined()
    }
    var css =
      ":root{--ink:#1f2328;--faint:#59636e;--grid:#d8dee4;--paper:#ffffff;"
      + "\(names(light, lightShades))}"
    css +=
      "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#9aa4af;--grid:#30363d;"
      + "--paper:#0d1117;\(names(dark, darkShades))}}"
    css +=
      "svg text{font:13px system-ui,sans-serif;fill:var(--ink)}svg .faint{fill:var(--faint)}"
      + "svg .grid{stroke:var(--grid);stroke-width:1}svg .axis{stroke:var(--faint);stroke-width:1}"
      + "svg .mark{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 3}"
      + "svg .whisker{stroke:var(--ink);stroke-width:1.5}"
      + "svg .never{fill:none;stroke:var(--faint);stroke-dasharray:4 3}"
      + "svg .pause{fill:var(--grid)}"
      + "svg .over{paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}"
    for index in light.indices {
      css +=
        "svg .l\(index){fill:none;stroke:var(--c\(index));stroke-width:1.8;stroke-linejoin:round}"
        + "svg .d\(index){fill:none;stroke:var(--c\(index));stroke-width:1.6;stroke-dasharray:5 3}"
        + "svg .f\(index){fill:var(--c\(index))}"
    }
    for index in lightShades.indices {
      css +=
        "svg .h\(index){fill:var(--h\(index))}"
        + "svg .e\(index){fill:none;stroke:var(--h\(index));stroke-width:2}"
        + "svg .b\(index){fill:transparent;stroke:var(--h\(index));stroke-width:1}"
    }
    return css
  }()
}
