import Agent
import ArgumentParser
import Base

struct CancelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel", abstract: "End the migration of a guest; it goes on at the source.",
    discussion: """
      Possible until the commit: after it the guest belongs to the destination. Returns once the \
      cancellation is under way; `godwit watch` shows its end.
      """)

  @Argument(help: "Name of the VM.")
  var vm: String
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  private struct Answer: Encodable { let cancelled: String }

  func run() async throws {
    try await control.client.cancel(vm: vm)
    if output.json { return try Output.json(Answer(cancelled: vm)) }
    Output.line("the migration of \(TerminalText.plain(vm)) is being cancelled")
  }
}

struct VersionCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "version", abstract: "Print the version of this command and of the running agent.")

  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  private struct Answer: Encodable {
    let godwit: String
    @OrNull var agent: String?
  }

  func run() async throws {
    let own = GodwitVersion.current.godwit
    let agent = try? await control.client.version().godwit
    if output.json { return try Output.json(Answer(godwit: own, agent: agent)) }
    Output.line("godwit \(own)")
    Output.line(agent.map { "agent  \(TerminalText.plain($0))" } ?? "agent  none answers")
  }
}
