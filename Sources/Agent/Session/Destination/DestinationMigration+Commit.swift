import Base
import FoundationEssentials
import HostIO
import Logging
import QMP

extension DestinationMigration {
  /// Who gets the answer to a commit.
  enum CommitAnswer: Sendable {
    case link
    case settlement(@Sendable (PeerMessage.Settlement) -> Void)
  }

  /// PREPARED: waits for the source's word, on this connection or, when it is gone, on another.
  func waitForVerdict(
    _ qemu: IncomingQEMU, _ undo: inout DestinationUndo
  ) async throws -> CommitAnswer {
    var audit = AuditCheck()
    while true {
      guard let event = await mailbox.take(timeoutMs: Self.answerTimeoutMs) else {
        logger.warning("prepared, waiting for the source's word")
        continue
      }
      switch event {
      case .peer(.message(.commit)): return .link
      case .peer(.message(.auditPages(let block, let firstPage, let digests))):
        try await audit.check(block: block, firstPage: firstPage, digests: digests, qemu)
      case .peer(.message(.auditEnd)): try link.send(audit.message)
      case .peer(.message(.abort(let reason))):
        undo.isPrepared = false  // the source itself says so: nothing will be asked again
        throw Ending.failed("given up by the source: \(reason)")
      case .peer(.message(let message)):
        logger.warning("unexpected message", metadata: ["message": "\(message)"])
      case .peer(.ended), .relay(.failed):
        // In doubt: the source may have committed. It will come back and say.
        logger.warning("the source is gone after PREPARED; waiting for its verdict")
      case .relay(.streamFed), .peer(.connection): break
      case .qemuGone: throw Ending.failed("the destination's QEMU died before the guest ran in it")
      case .verdict(.commit, let answer): return .settlement(answer)
      case .verdict(.abort, let answer):
        undo.isPrepared = false
        await undo.qemu?.discard()
        answer(.gone)
        throw Ending.failed("given up by the source after its restart")
      }
    }
  }

  /// Runs the guest: the source has given it up for good.
  func resume(
    _ qemu: IncomingQEMU, _ request: PeerMessage.PrepareRequest, _ answer: CommitAnswer,
    _ undo: inout DestinationUndo
  ) async throws {
    let startedMs = MonotonicClock.nowMs
    do {
      try await holds.hold(.commit)
      guard qemu.identity.isAlive else {
        throw Ending.failed("the destination's QEMU died before the guest ran in it")
      }
      try await undo.journal?.append(.resuming)
    } catch {
      if case .settlement(let answer) = answer { answer(.lost) }
      throw error
    }
    // From here on the guest may have run here, so the source must never resume, whatever happens.
    undo.isResumed = true
    if request.source.isRunning {
      do { try await qemu.monitor.client.cont() } catch {
        logger.error(
          "QEMU died or hung when it was to run the guest", metadata: ["error": "\(error)"])
      }
    }
    switch answer {
    case .link: _ = try? link.send(.running(afterMs: MonotonicClock.nowMs - startedMs))
    case .settlement(let answer): answer(.running)
    }
    try await undo.journal?.append(.done(outcome: JournalRecord.outcomeRunning))
    state.update { state in
      state.progress.phase = .done
      state.progress.progressPermille = 1000
    }
    logger.info("the guest runs here", metadata: ["vm": "\(request.vm)"])
    let capabilities = try? await qemu.monitor.client.queryMigrateCapabilities()
    if capabilities?.exists("events") == true {
      try? await qemu.monitor.client.migrateSetCapabilities(["events": false])
    }
  }
}
