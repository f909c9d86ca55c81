import HostIO
import Logging
import Strategy
import Wire

// Pulls that an earlier agent of this host left behind. They go on beside the recovery, which asks how they
// are doing: a pull may take long.
extension MigrationAgent {
  /// How the pull into this host goes; nil: none was taken up, or it has failed and may be begun anew.
  func pullInput(_ id: MigrationID) async -> DestinationCommitMachine.Input? {
    guard let revival = revivals[id] else { return nil }
    switch revival.state {
    case .running: return .failed
    case .done: return .performed
    case .failed(let reason):
      logger.warning(
        "pull not taken up", metadata: ["migration": "\(id)", "error": "\(reason)"])
      await endRevival(id.description)
      return nil
    }
  }

  func revive(_ id: MigrationID, _ revival: PullRevival) { revivals[id] = revival }

  /// Its migration is settled, or it is to be begun anew.
  func endRevival(_ id: String) async {
    guard let id = MigrationID(id), let revival = revivals.removeValue(forKey: id) else { return }
    await revival.stop()
  }

  func hasResumed(_ id: String) -> Bool { resumed.contains(id) }
  func forgetResumed(_ id: String) { resumed.remove(id) }
  func noteResumed(_ id: String) { resumed.insert(id) }

  /// How the pull out of this host goes; nil: as above.
  func serveInput(_ id: MigrationID) async -> SourceCommitMachine.Input? {
    guard let server = servers[id] else { return nil }
    switch server.state {
    case .running: return .failed
    case .done: return .performed
    case .failed:
      await endServer(id.description)
      return nil
    }
  }

  func revive(_ id: MigrationID, _ server: RevivedServer) { servers[id] = server }

  func endServer(_ id: String) async {
    guard let id = MigrationID(id), let server = servers.removeValue(forKey: id) else { return }
    await server.stop()
  }

  /// A revived pull has ended: its migration is settled without waiting for the next round.
  nonisolated func settleSoon(_ id: MigrationID, source: Bool) {
    Task {
      for _ in 0..<Self.settleAttempts {
        do {
          let isSettled = try await exclusively(id.description) {
            source
              ? try await SourceRecovery(id: id.description, agent: self).recover().isSettled
              : try await DestinationRecovery(id: id.description, agent: self).recover().isSettled
          }
          if isSettled { return }
          if await isRevived(id) { return }
        } catch {
          // The recovery's own round works on it now, or the other side is not there.
          logger.debug("not settled yet", metadata: ["migration": "\(id)", "error": "\(error)"])
        }
        try? await Task.sleep(nanoseconds: Self.settlePauseMs * 1_000_000)
      }
    }
  }

  private static let settleAttempts = 15
  private static let settlePauseMs: UInt64 = 2000

  private func isRevived(_ id: MigrationID) -> Bool {
    if case .running = revivals[id]?.state { return true }
    if case .running = servers[id]?.state { return true }
    return false
  }
}
