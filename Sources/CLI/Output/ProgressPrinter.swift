import Agent

/// Shows running migrations: redrawn in place on a terminal, line by line elsewhere.
struct ProgressPrinter {
  /// Without a terminal a migration gets a line when its phase changes, and this often at most.
  static let lineInterval = Duration.seconds(2)

  private let descriptor: Int32
  private var screen = LiveScreen()
  private var steady = SteadyProgress()
  private var looks: [MigrationProgress] = []
  private var receivedAt = ContinuousClock.now
  private var printed: [String: (phase: MigrationPhase, at: ContinuousClock.Instant)] =
    [:]

  init(descriptor: Int32) { self.descriptor = descriptor }

  /// Takes news and shows them. `note` is a line below, for what the user should know.
  mutating func show(_ news: [MigrationProgress], note: String? = nil) {
    looks = news.map { steady.settle($0) }
    let ids = Set(news.map(\.id))
    steady.keep(only: ids)
    printed = printed.filter { ids.contains($0.key) }
    receivedAt = .now
    guard Terminal.columns(descriptor) == nil else { return redraw(note: note) }
    for look in looks where isDue(look) {
      printed[look.id] = (look.phase, .now)
      Output.write(ProgressView.line(look) + "\n", to: descriptor)
    }
  }

  /// Draws the last news again, with the time that has passed; does nothing without a terminal.
  mutating func redraw(note: String? = nil) {
    guard let (width, height) = Terminal.size(descriptor) else { return }
    let age = max(ContinuousClock.now - receivedAt, .zero)
    let ageMs =
      UInt64(clamping: age.components.seconds * 1000)
      + UInt64(clamping: age.components.attoseconds / 1_000_000_000_000_000)
    var lines: [String] = []
    for look in looks {
      if !lines.isEmpty { lines.append("") }
      lines += ProgressView.lines(look, width: width - 1, ageMs: ageMs)
    }
    if let note { lines.append(TerminalText.plain(note)) }
    Output.write(screen.frame(lines, width: width, height: height), to: descriptor)
  }

  /// Takes the view away; what is printed next stands in its place.
  mutating func clear() {
    guard let width = Terminal.columns(descriptor) else { return }
    Output.write(screen.clear(width: width), to: descriptor)
  }

  private func isDue(_ look: MigrationProgress) -> Bool {
    guard let last = printed[look.id] else { return true }
    return last.phase != look.phase || .now - last.at >= Self.lineInterval
  }
}
