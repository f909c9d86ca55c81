import Agent
import ArgumentParser
import UnixSignals

/// Follows one migration from its start to its record: draws progress, turns Ctrl-C into a cancellation.
struct MigrationFollower {
  /// Conventional status of a command that Ctrl-C ended (128 + SIGINT).
  static let detached = ExitCode(130)

  private enum Event: Sendable {
    case update(MigrationUpdate)
    case lost(any Error)
    case tick
    case interrupt
    case cancelFailed(String)
  }

  let client: ControlClient
  let vm: String
  /// Nothing but errors on the terminal.
  let quiet: Bool

  /// - Throws: `ControlError`, or an exit code when the user left.
  func follow(_ request: MigrationRequest) async throws -> MigrationRecord {
    let (events, feed) = AsyncStream<Event>.makeStream()
    // Before anything begins: who is killed by an early Ctrl-C cancels nothing.
    let interrupts = await UnixSignalsSequence(trapping: .sigint)
    let sources = [
      Task { [client] in
        do {
          for try await update in client.migrate(request) { feed.yield(.update(update)) }
          feed.yield(.lost(ControlError(.failed, "the agent closed the connection")))
        } catch {
          feed.yield(.lost(error))
        }
      },
      Task {
        while !Task.isCancelled {
          try await Task.sleep(for: .milliseconds(200))
          feed.yield(.tick)
        }
      },
      Task {
        for await _ in interrupts { feed.yield(.interrupt) }
      },
    ]
    defer { sources.forEach { $0.cancel() } }

    var printer = ProgressPrinter(descriptor: 2)
    var note: String?
    var started = false
    for await event in events {
      switch event {
      case .update(.progress(let look)):
        started = true
        if !quiet { printer.show([look], note: note) }
      case .update(.finished(let record)):
        if !quiet { printer.clear() }
        return record
      case .lost(let error):
        if !quiet { printer.clear() }
        if started { throw lost(error) }
        throw error
      case .tick:
        if !quiet, started { printer.redraw(note: note) }
      case .interrupt:
        guard note == nil else { throw leave(&printer) }
        note = "cancelling; Ctrl-C again leaves without waiting"
        if Terminal.columns(2) == nil { Output.error("cancelling") }
        Task { [client, vm] in
          do { try await client.cancel(vm: vm) } catch { feed.yield(.cancelFailed("\(error)")) }
        }
      case .cancelFailed(let reason):
        note = "not cancelled: \(reason); Ctrl-C again leaves without waiting"
        if Terminal.columns(2) == nil { Output.error(note ?? reason) }
      }
    }
    throw ControlError(.failed, "the view of the migration ended")
  }

  /// The agent vanished in the middle: only its journal knows how far it was.
  private func lost(_ error: any Error) -> ExitCode {
    Output.error("\(error)")
    Output.error(
      "an agent that ends before the commit gives the guest back to the source; start it again and "
        + "look at `godwit recover` and `godwit history` before you start or stop any QEMU by hand")
    return ExitStatus.needsHuman.exitCode
  }

  private func leave(_ printer: inout ProgressPrinter) -> ExitCode {
    if !quiet { printer.clear() }
    Output.error("left; the agent goes on, `godwit watch \(vm)` shows what it does")
    return Self.detached
  }
}
