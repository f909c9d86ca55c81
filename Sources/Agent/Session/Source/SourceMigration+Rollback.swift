import Base
import HostIO
import Logging
import QMP
import Strategy

extension SourceMigration {
  static let rollbackTimeoutMs: UInt64 = 30_000

  /// Ends QEMU's migration and makes sure that the guest runs if it ran before.
  func giveGuestBack(_ undo: SourceUndo) async -> SourceCommitMachine.Input {
    await undo.vcpus?.restore()
    guard undo.isMigrating, let monitor = undo.monitor else {
      return .guestBack(mayBePrepared: false)
    }
    let client = monitor.client
    let isStopped = state.read { $0.stoppedAtMs } != nil
    if !isStopped { try? await client.migrateCancel() }
    // A stopped guest is resumed by QEMU itself when its socket closes without SHUT 0.
    let relay = undo.relay
    _ = try? await Blocking.run { relay?.stop() }
    // After it: this may wait for the network, and the guest must not.
    await stopPull()
    let mayBePrepared = await streamMayBeOut()
    let deadline = MonotonicClock.nowMs + Self.rollbackTimeoutMs
    while MonotonicClock.nowMs < deadline, !client.isClosed {
      guard let info = try? await client.queryMigrate(timeoutMs: 5000),
        let status = try? await client.queryStatus(timeoutMs: 5000)
      else { continue }
      if info.hasTakenGuestAway(status) { return .completed }
      if info.status.isFinal || info.status == .none {
        let wasStopped = state.read { $0.stoppedAtMs != nil || $0.pausedAtMs != nil }
        guard undo.guestWasRunning, status.isLeftStopped(byMigration: wasStopped) else {
          return .guestBack(mayBePrepared: mayBePrepared)
        }
        try? await client.cont()
      }
      try? await Task.sleep(nanoseconds: 10_000_000)
    }
    if client.isClosed { return .guestBack(mayBePrepared: mayBePrepared) }
    logger.error("QEMU did not end the migration; look at `query-migrate` on its monitor")
    return .failed
  }

  /// Whether the destination can have all of the guest. The relay has ended, so what it had to tell
  /// waits in the mailbox: the guest may have stopped after the migration was given up.
  private func streamMayBeOut() async -> Bool {
    while mailbox.count > 0, let event = await mailbox.take(timeoutMs: 1) {
      switch event {
      case .relay(.stream(.guestStopped)), .relay(.stream(.ended)), .peer(.message(.loaded)):
        note { $0.streamHasEnded = true }
      default: break
      }
    }
    return state.read { $0.streamHasEnded || $0.stoppedAtMs != nil }
  }

  /// Puts the way it ended into the record.
  func conclude(_ end: SourceEnd) {
    let trouble: String? =
      switch end {
      case .completed, .takenBack, .forgotten, .nothing, .open(.destinationSilentAfterAbort): nil
      case .returned:
        "the destination's QEMU ended after the commit, before it ran the guest; it goes on here"
      case .bothGone: "both QEMUs ended during the commit"
      case .open, .needsHuman: "\(end.text); see `godwit recover`"
      }
    note { state in
      if end == .completed { state.record.outcome = .completed }
      guard let trouble else { return }
      state.record.outcome = .failed
      state.record.reason = [state.record.reason, trouble].compactMap { $0 }.joined(separator: "; ")
      state.record.isGuestSafe = end == .returned
    }
    if end != .completed {
      let reason = state.read { $0.record.reason } ?? ""
      logger.warning("migration ended", metadata: ["reason": "\(reason)"])
    }
  }

  /// Puts the error into the record.
  func describe(_ error: any Error, _ undo: SourceUndo) {
    // Whatever noticed it first: a monitor that has closed means that QEMU is gone.
    var error = error
    var isGuestSafe = true
    if undo.monitor?.isClosed == true, !(error is Ending) {
      error = Ending.sourceLost("the source's QEMU ended during the migration")
    }
    if case Ending.sourceLost = error { isGuestSafe = false }
    if state.read({ $0.qemuHasDied }) { isGuestSafe = false }
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
