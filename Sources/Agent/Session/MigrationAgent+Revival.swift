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
    case .done:
      revivals[id] = nil
      await revival.stop()
      return .performed
    case .failed(let reason):
      logger.warning(
        "pull not taken up", metadata: ["migration": "\(id)", "error": "\(reason)"])
      revivals[id] = nil
      await revival.stop()
      return nil
    }
  }

  func revive(_ id: MigrationID, _ revival: PullRevival) { revivals[id] = revival }

  /// How the pull out of this host goes; nil: as above.
  func serveInput(_ id: MigrationID) async -> SourceCommitMachine.Input? {
    guard let server = servers[id] else { return nil }
    switch server.state {
    case .running: return .failed
    case .done:
      servers[id] = nil
      await server.stop()
      return .performed
    case .failed:
      servers[id] = nil
      await server.stop()
      return nil
    }
  }

  func revive(_ id: MigrationID, _ server: RevivedServer) { servers[id] = server }

  /// A revived pull has ended: its migration is settled without waiting for the next round.
  nonisolated func settleSoon(_ id: MigrationID, source: Bool) {
    Task {
      do {
        if source {
          _ = try await exclusively(id.description) {
            try await SourceRecovery(id: id.description, agent: self).recover()
          }
        } else {
          _ = try await exclusively(id.description) {
            try await DestinationRecovery(id: id.description, agent: self).recover()
          }
        }
      } catch {
        // The next round of the recovery does it.
        logger.debug("not settled yet", metadata: ["migration": "\(id)", "error": "\(error)"])
      }
    }
  }
}
