import Agent

/// One line on standard error that is drawn over, where that is a terminal; nothing elsewhere.
struct StatusLine {
  private var isShown = false

  mutating func show(_ text: String) {
    guard let columns = Terminal.columns(2) else { return }
    Output.write("\r\u{1B}[K" + TerminalText.fit(text, columns: max(columns - 1, 1)), to: 2)
    isShown = true
  }

  mutating func clear() {
    guard isShown else { return }
    Output.write("\r\u{1B}[K", to: 2)
    isShown = false
  }
}
