import Agent
public import ArgumentParser

/// The root of the command line.
public struct GodwitCommand: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "godwit",
    abstract: "Moves running QEMU/KVM guests between hosts.",
    discussion: """
      An agent runs on each host (godwit agent). The other commands talk to the agent of this host \
      over its control socket. Exit status: 0 done; 1 failed, the guest is safe at the source; 2 wrong \
      usage; 3 refused before anything moved; 4 cancelled; 5 a person must decide; 70 a defect of \
      Godwit's.
      """,
    version: GodwitVersion.current.godwit,
    subcommands: [
      AgentCommand.self, VMsCommand.self, MigrateCommand.self, StatusCommand.self,
      WatchCommand.self, CancelCommand.self, RecoverCommand.self, HistoryCommand.self,
      PlanCommand.self, TraceCommand.self, VaultCommand.self,
      WarmCommand.self,
      VersionCommand.self, PKICommand.self, IndexCommand.self, BlockCommand.self, LabCommand.self,
      SimulateCommand.self, StreamCommand.self, ManualCommand.self, KeepMonitorCommand.self,
      GuardPauseCommand.self, GuardCopyCommand.self,
    ])

  public init() {}
}

extension GodwitCommand {
  /// Runs the command line of this process and never returns.
  public static func runAndExit() async -> Never {
    do {
      var command = try parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch {
      leave(with: error)
    }
    exit(withError: nil)
  }

  /// Prints the error as one line (usage errors with a hint) and exits with the documented status.
  private static func leave(with error: any Error) -> Never {
    if let error = error as? ControlError {
      Output.error(error.message)
      exit(.init(error.exitStatus.rawValue))
    }
    switch exitCode(for: error) {
    case .validationFailure:
      Output.write(fullMessage(for: error) + "\n", to: 2)
      exit(.init(ExitStatus.usage.rawValue))
    case .failure where !(error is ExitCode):
      Output.error("\(error)")
      exit(.init(ExitStatus.failed.rawValue))
    default: exit(withError: error)
    }
  }

  private static func exit(_ code: ExitCode) -> Never { exit(withError: code) }
}

extension ExitStatus {
  /// Thrown by commands that have already said what happened.
  var exitCode: ExitCode { ExitCode(rawValue) }
}
