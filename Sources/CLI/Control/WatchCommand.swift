import Agent
import ArgumentParser

struct WatchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "watch", abstract: "Follow running migrations live.",
    discussion: """
      With a VM: waits for its migration to begin, follows it, prints the result and exits as \
      `godwit migrate` would have. Without: shows whatever runs until Ctrl-C. Watching changes \
      nothing: leaving doesn't cancel.
      """)

  @Argument(help: "Name of the VM; all when left out.")
  var vm: String?
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    var printer = ProgressPrinter(descriptor: 1)
    var followed: MigrationProgress?
    var announced = false
    for try await looks in control.client.watch() {
      let shown = looks.filter { vm == nil || $0.vm == vm }
      if let look = shown.last {
        followed = look
      } else if vm != nil, let followed {
        if !output.json { printer.clear() }
        return try await finish(followed)
      }
      if output.json {
        try shown.forEach { try Output.json($0) }
        continue
      }
      if shown.isEmpty, Terminal.columns(1) == nil, !announced { Output.line(waiting) }
      announced = shown.isEmpty
      printer.show(shown, note: shown.isEmpty ? waiting : nil)
    }
    throw ControlError(.failed, "the agent ended")
  }

  private var waiting: String {
    vm.map { "no migration of \(TerminalText.plain($0)) runs; waiting" }
      ?? "no migration runs; waiting"
  }

  /// The result, as the source's agent wrote it down; the destination's knows only its own end.
  private func finish(_ look: MigrationProgress) async throws {
    let records = try await control.client.history(limit: 50)
    guard let record = records.first(where: { $0.id == look.id }) else {
      guard look.side == "destination" else {
        throw ControlError(.failed, "the migration has ended, and the history doesn't tell how")
      }
      // Looks are a quarter of a second apart: the last one seen may not be the last there was.
      let end = look.phase == .done ? "has arrived" : "is no longer on its way; see `godwit vms`"
      if !output.json { Output.line("\(TerminalText.plain(look.vm)) \(end)") }
      return
    }
    if output.json {
      try Output.json(record)
    } else {
      RecordReport.lines(record).forEach(Output.line)
    }
    guard record.outcome == .completed else { throw record.exitStatus.exitCode }
  }
}
