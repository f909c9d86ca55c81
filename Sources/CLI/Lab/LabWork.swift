import Agent
import Lab
import UnixSignals

/// Runs an experiment so that a signal ends it in order: guests ended, namespaces removed.
enum LabWork {
  static func run<T: Sendable>(
    _ screen: LabScreen, _ body: @escaping @Sendable () async throws -> T
  ) async throws -> T {
    let work = Task { try await body() }
    let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm, .sighup)
    let watcher = Task {
      for await _ in signals {
        await screen.note("stopping: ending guests, removing namespaces")
        work.cancel()
      }
    }
    defer { watcher.cancel() }
    do {
      return try await work.value
    } catch is CancellationError {
      throw ExitStatus.cancelled.exitCode
    } catch let error as LabError {
      await screen.clear()
      Output.error(error.description)
      throw ExitStatus.failed.exitCode
    }
  }
}
