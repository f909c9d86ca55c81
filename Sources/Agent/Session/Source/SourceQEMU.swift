import HostIO
import QMP
import Strategy

/// The source's QEMU as the commit protocol sees it.
struct SourceQEMU {
  let client: QMPClient
  /// nil: in another PID namespace, say; then only its monitor tells whether it lives.
  let process: ProcessIdentity?

  init(_ client: QMPClient, _ process: ProcessIdentity?) {
    (self.client, self.process) = (client, process)
  }

  /// `cont`; on a guest that runs it does nothing.
  func resumeGuest() async -> SourceCommitMachine.Input {
    do {
      try await client.cont()
      return .performed
    } catch {
      return process?.isAlive == false ? .qemuGone : .failed
    }
  }
}

extension MigrationInfo {
  /// A migration out of this QEMU has completed and nobody has run the guest here since. `completed` alone says nothing: so
  /// says a QEMU whose guest once came in.
  func hasTakenGuestAway(_ now: VMStatus) -> Bool {
    status == .completed && now.state == .postMigrate && !now.isRunning
  }
}

extension VMStatus {
  /// A migration out of this QEMU is over, and the guest that it stopped was not let go on. A guest that its operator has
  /// paused, or that waits for its disk, is not the migration's to run.
  ///
  /// - Parameter byMigration: the guest was stopped for the migration, as far as is known.
  func isLeftStopped(byMigration: Bool) -> Bool {
    guard !isRunning else { return false }
    switch state {
    case .postMigrate, .finishMigrate: return true
    case .paused: return byMigration
    default: return false
    }
  }
}

extension SourceEnd {
  /// Why a migration is not settled, for people; for the other ends, what became of it.
  var text: String {
    switch self {
    case .completed: "the guest runs at the destination"
    case .takenBack: "the guest stays here"
    case .returned: "the guest came back"
    case .bothGone: "both QEMUs are gone"
    case .forgotten: "closed by a person"
    case .nothing: "nothing is left to do"
    case .open(.destinationSilentAfterCommit):
      "the guest was given up here and the destination's agent cannot be reached; it is told to run the guest as soon as it answers"
    case .open(.destinationSilentAfterAbort):
      "the guest is here; the destination's agent, which may hold a paused copy, cannot be reached"
    case .open(.qemuSilent): "the source's QEMU does not answer or does not obey its monitor"
    case .open(.journalFailed): "the journal cannot be written"
    case .open(.destinationLacksPages):
      "the guest runs at the destination and lacks pages that QEMU here holds; they are given as soon as its agent asks"
    case .needsHuman(.pagesLost):
      "the guest runs at the destination and lacks pages, and the source's QEMU, which held them, is gone: it waits for them for ever"
    case .needsHuman(.commitInDoubt):
      "commit in doubt: the agent died around the hand-over and then QEMU here did; nobody knows whether the guest had run on here"
    case .needsHuman(.movedByAnother):
      "QEMU here says that a migration has completed, and it was not this one: somebody else has moved the guest"
    case .needsHuman(.destinationForgot):
      "the guest was given up here, and the agent that answers as the destination knows nothing of it"
    case .needsHuman(.destinationRuns):
      "the guest was taken back here on a person's word, but it has run at the destination"
    }
  }
}
