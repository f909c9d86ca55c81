import Agent
import ArgumentParser
import Strategy

struct RecoverCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recover", abstract: "Show and settle what broken migrations left behind.",
    discussion: """
      Agents settle by themselves whatever they can find out, and go on trying. This command makes \
      them try now, and shows what is left: how far each side's journal came, what QEMU here says, \
      why it isn't settled, and what may be decided, with what comes of it. A decision is taken only where \
      it is offered: what QEMU or the other agent says always counts more. Until a migration is settled \
      move its guest by no other means: what QEMU then says of its migration would be taken for this one. Exit status 0 when \
      nothing is left; 1 when the guest is safe at the source and the agent goes on by itself; 5 when \
      a person is needed.
      """)

  @Argument(help: "Name of the VM, or id of the migration (default: everything that is left).")
  var target: String?
  @Flag(help: "Decide that the guest runs, or shall run, at the destination.")
  var commit = false
  @Flag(help: "Decide that the guest runs, or shall run, at the source.")
  var abort = false
  @Flag(help: "Close the journal and leave every QEMU as it is.")
  var forget = false
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  var decision: OperatorDecision? {
    if commit { return .commit }
    if abort { return .abort }
    return forget ? .forget : nil
  }

  func validate() throws {
    guard [commit, abort, forget].filter({ $0 }).count <= 1 else {
      throw ValidationError("--commit, --abort and --forget exclude each other")
    }
    guard decision == nil || target != nil else {
      throw ValidationError("a decision is about one migration: name its VM or its id")
    }
  }

  func run() async throws {
    let request = RecoverRequest(target: target, decision: decision)
    let items = try await control.client.recover(request)
    if output.json {
      try items.forEach { try Output.json($0) }
    } else if items.isEmpty {
      Output.line("nothing is left to settle")
    } else {
      items.flatMap(Self.lines).forEach(Output.line)
    }
    let status = Self.status(items)
    if status != .done { throw status.exitCode }
  }

  static func status(_ items: [RecoveryItem]) -> ExitStatus {
    if items.contains(where: \.needsHuman) { return .needsHuman }
    return items.allSatisfy(\.isSettled) ? .done : .failed
  }

  static func lines(_ item: RecoveryItem) -> [String] {
    let way = item.side == "destination" ? "from" : "to"
    var lines = [
      "\(item.vm ?? "unknown guest") \(way) \(item.peer ?? "unknown")  [migration \(item.id)]",
      "  \(item.isSettled ? "settled" : item.needsHuman ? "needs you" : "goes on"): \(item.state)",
    ]
    if !item.isSettled {
      lines.append(
        "  journal: \(item.phase ?? "nothing readable"); QEMU here: \(item.qemu ?? "no answer")")
    }
    for choice in item.choices {
      lines.append("  --\(choice.decision.rawValue): \(choice.effect)")
    }
    return lines.map(TerminalText.plain)
  }
}
