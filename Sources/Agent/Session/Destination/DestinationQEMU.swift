import HostIO
import Logging
import QMP
import Strategy

/// The destination's QEMU as the commit protocol sees it.
enum DestinationQEMU {
  /// Runs the guest; on one that runs already it does nothing.
  static func resume(
    _ client: QMPClient, _ process: ProcessIdentity?, _ logger: Logger
  ) async -> DestinationCommitMachine.Input {
    do {
      try await client.cont()
      return .performed
    } catch {
      logger.error("QEMU did not run the guest", metadata: ["error": "\(error)"])
      if process?.isAlive == false { return .qemuGone }
      // A refusal counts only when QEMU itself says that the guest stands still.
      guard case .refused = error.code, let status = try? await client.queryStatus() else {
        return .failed
      }
      return status.isRunning ? .performed : .refused
    }
  }
}

extension DestinationEnd {
  /// Why a migration is not settled, for people; for the other ends, what became of it.
  var text: String {
    switch self {
    case .ended(.running): "the guest runs here"
    case .ended(.lost): "QEMU here ended before it ran the guest; the source was told, or will be"
    case .ended(.discarded): "the guest stayed at the source; nothing is left here"
    case .nothing: "nothing is left to do"
    case .awaitsVerdict:
      "prepared: the guest is loaded and paused here; only the source knows whether it was given up"
    case .open(.qemuSilent): "QEMU here does not answer or does not end"
    case .open(.lacksPages):
      "the guest runs here and lacks pages that the source holds; what touches them waits"
    case .open(.journalFailed): "the journal cannot be written"
    case .needsHuman:
      "QEMU here refuses to run the guest, which an earlier agent may have run already"
    }
  }
}
