import Agent

/// Columns of text, each as wide as its widest cell. A column without any value is left out.
struct Table {
  private var rows: [[String]]

  init(_ header: [String]) { rows = [header] }

  /// Cells come from guests and files: control characters are replaced.
  mutating func add(_ cells: [String]) { rows.append(cells.map(TerminalText.plain)) }

  /// The lines, cut to `width` columns; nil: whole, as `lines`.
  func lines(fitting width: Int?) -> [String] {
    width.map { width in lines.map { TerminalText.fit($0, columns: width) } } ?? lines
  }

  var lines: [String] {
    let count = rows.map(\.count).max() ?? 0
    let cell = { (row: [String], column: Int) in column < row.count ? row[column] : "" }
    let columns = (0..<count).filter { column in
      rows.dropFirst().contains { !["", "-"].contains(cell($0, column)) }
    }
    let widths = columns.map { column in
      rows.map { TerminalText.width(cell($0, column)) }.max() ?? 0
    }
    return rows.map { row in
      let padded = zip(columns, widths).map { TerminalText.pad(cell(row, $0), columns: $1) }
      let text = padded.joined(separator: "  ")
      return String(text.reversed().drop { $0 == " " }.reversed())
    }
  }
}
