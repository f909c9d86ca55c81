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

  /// Of every plot, in a page or alone.
  static let css: String = {
    let names = { (colours: [String]) in
      colours.enumerated().map { "--c\($0): \($1);" }.joined()
    }
    var css = ":root{--ink:#1f2328;--faint:#59636e;--grid:#d8dee4;--paper:#ffffff;\(names(light))}"
    css +=
      "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#9aa4af;--grid:#30363d;"
      + "--paper:#0d1117;\(names(dark))}}"
    css +=
      "svg text{font:13px system-ui,sans-serif;fill:var(--ink)}svg .faint{fill:var(--faint)}"
      + "svg .grid{stroke:var(--grid);stroke-width:1}svg .axis{stroke:var(--faint);stroke-width:1}"
      + "svg .mark{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 3}"
      + "svg .whisker{stroke:var(--ink);stroke-width:1.5}"
      + "svg .never{fill:none;stroke:var(--faint);stroke-dasharray:4 3}"
    for index in light.indices {
      css +=
        "svg .l\(index){fill:none;stroke:var(--c\(index));stroke-width:1.8;stroke-linejoin:round}"
        + "svg .d\(index){fill:none;stroke:var(--c\(index));stroke-width:1.6;stroke-dasharray:5 3}"
        + "svg .f\(index){fill:var(--c\(index))}"
    }
    return css
  }()
}
