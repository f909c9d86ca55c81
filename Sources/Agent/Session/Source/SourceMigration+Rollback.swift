import Base
import HostIO
import Logging
import QMP

extension SourceMigration {
  static let rollbackTimeoutMs: UInt64 = 30_000

  /// Takes everything back: the guest goes on here, QEMU's settings are as they were, the
  /// destination is told to forget it.
  func rollBack(_ error: any Error, _ undo: inout SourceUndo) async {
    describe(error, undo)
    let reason = state.read { $0.record.reason } ?? "failed"
    logger.warning("migration ended", metadata: ["reason": "\(reason)"])
    guard !undo.isCommitted else {
      // SHUT 0 may have been taken: what is true is settled from the journal, never guessed here.
      note { state in
        state.record.reason = reason + "; the commit is in doubt, the agent goes on settling it"
        state.record.isGuestSafe = false
      }
      return
    }
    _ = try? undo.link?.send(.abort(reason: reason))
    if undo.isMigrating, let monitor = undo.monitor {
      await giveGuestBack(monitor.client, undo)
    }
    if let settings = undo.settings, let monitor = undo.monitor {
      do {
        try await monitor.client.restore(
          capabilities: settings.capabilities, parameters: settings.parameters)
      } catch {
        logger.warning("QEMU's migration settings not restored", metadata: ["error": "\(error)"])
      }
    }
    guard await destinationForgets(undo) else { return }
    try? await undo.journal?.append(.done(outcome: reason))
    undo.journal?.remove()
  }

  /// Makes sure that a destination which may be PREPARED learns that it will never run the guest.
  /// False: it could not be told yet, and the recovery goes on trying.
  private func destinationForgets(_ undo: SourceUndo) async -> Bool {
    guard state.read({ $0.streamHasEnded || $0.stoppedAtMs != nil }) else { return true }
    try? await undo.journal?.append(.takenBack)
    let settlement = await PeerSettlement.settle(
      id: id, peer: request.destination, verdict: .abort, patienceMs: 0,
      security: PeerSecurity(configuration), logger: logger)
    return settlement != nil
  }

  /// Ends QEMU's migration and makes sure that the guest runs if it ran before.
  private func giveGuestBack(_ client: QMPClient, _ undo: SourceUndo) async {
    let isStopped = state.read { $0.stoppedAtMs } != nil
    if !isStopped { try? await client.migrateCancel() }
    // A stopped guest is resumed by QEMU itself when its socket closes without SHUT 0.
    let relay = undo.relay
    _ = try? await Blocking.run { relay?.stop() }
    let deadline = MonotonicClock.nowMs + Self.rollbackTimeoutMs
    while MonotonicClock.nowMs < deadline, !client.isClosed {
      guard let info = try? await client.queryMigrate(timeoutMs: 5000),
        let status = try? await client.queryStatus(timeoutMs: 5000)
      else { continue }
      if info.status.isFinal || info.status == .none {
        guard undo.guestWasRunning, !status.isRunning else { return }
        if [.postMigrate, .finishMigrate, .paused].contains(status.state) {
          try? await client.cont()
        }
      }
      try? await Task.sleep(nanoseconds: 10_000_000)
    }
    if client.isClosed { return }
    logger.error("QEMU did not end the migration; look at `query-migrate` on its monitor")
  }

  /// Puts the error into the record.
  private func describe(_ error: any Error, _ undo: SourceUndo) {
    // Whatever noticed it first: a monitor that has closed means that QEMU is gone.
    var error = error
    var isGuestSafe = true
    if undo.monitor?.isClosed == true, !(error is Ending) {
      error = Ending.sourceLost("the source's QEMU ended during the migration")
    }
    if case Ending.sourceLost = error { isGuestSafe = false }
    let (outcome, reason): (MigrationRecord.Outcome, String) =
      switch error {
      case Ending.refused(let refusals):
        (.refused, refusals.map(\.description).joined(separator: "\n"))
      case Ending.cancelled: (.cancelled, "cancelled")
      case Ending.failed(let text), Ending.sourceLost(let text): (.failed, text)
      default: (.failed, "\(error)")
      }
    note { state in
      state.record.outcome = outcome
      state.record.reason = reason
      state.record.isGuestSafe = isGuestSafe
    }
  }
}
