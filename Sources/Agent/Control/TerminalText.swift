/// Text for a terminal: no control characters, known width.
public enum TerminalText {
  /// `text` on one line, with every control character replaced: names and messages come from guests,
  /// peers and files, and must not steer the terminal.
  public static func plain(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { scalar in
          switch scalar.properties.generalCategory {
          case .control, .lineSeparator, .paragraphSeparator, .format: scalar == "\n" ? " " : "?"
          default: scalar
          }
        }))
  }

  /// Columns that a character takes: 2 for East Asian wide forms and pictographs, else 1.
  static func width(of character: Character) -> Int {
    guard let value = character.unicodeScalars.first?.value else { return 0 }
    let wide: [ClosedRange<UInt32>] = [
      0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
      0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1FAFF, 0x20000...0x3FFFD,
    ]
    return wide.contains { $0.contains(value) } ? 2 : 1
  }

  /// Columns that `text` takes.
  public static func width(_ text: String) -> Int { text.reduce(0) { $0 + width(of: $1) } }

  /// `text` cut to `columns`, with `…` in the last one when something was cut.
  public static func fit(_ text: String, columns: Int) -> String {
    guard width(text) > columns else { return text }
    var (result, used) = ("", 0)
    for character in text {
      let next = width(of: character)
      if used + next > columns - 1 { break }
      result.append(character)
      used += next
    }
    return columns > 0 ? result + "…" : ""
  }

  /// `text` with spaces up to `columns`; longer text is unchanged.
  public static func pad(_ text: String, columns: Int) -> String {
    text + String(repeating: " ", count: max(0, columns - width(text)))
  }
}
