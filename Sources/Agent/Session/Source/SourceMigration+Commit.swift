import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Wire

extension SourceMigration {
  static let commitTimeoutMs: UInt64 = 20_000
  /// How long `migrate` waits for a lost destination after the commit; the agent goes on trying.
  static let settlePatienceMs: UInt64 = 60_000

  /// Two-phase commit: the destination is PREPARED, the source frozen with its SHUT withheld.
  ///
  /// SHUT 0 always comes before the destination's `cont`: whatever dies in between, two running
  /// guests cannot come of it. Each step is in the journal before it is taken.
  func commit(_ setup: Setup, _ copy: Copy, _ undo: inout SourceUndo) async throws {
    try await enter(.commit)
    if state.read({ $0.isCancelled }) { throw Ending.cancelled }
    try await undo.journal?.append(.committing)
    undo.isCommitted = true
    if !state.read({ $0.sourceIsGone }) {
      // A broken socket is no verdict: what QEMU says of its migration is.
      do { try copy.relay.answer(.shut(0)) } catch {
        logger.warning("SHUT 0 not taken", metadata: ["error": "\(error)"])
      }
      try await waitForPostmigrate(setup, &undo)
    }
    let givenUpAtMs = MonotonicClock.nowMs
    try await undo.journal?.append(.committed)
    note { $0.progress.phase = .commit }

    switch await finishAtDestination(setup) {
    case nil: throw Ending.failed("\(request.destination) cannot be reached after the commit")
    case .running:
      let waitedMs = MonotonicClock.nowMs - givenUpAtMs
      note { $0.record.downtimeMs = ($0.record.downtimeMs ?? 0) + waitedMs }
      await retireSource(setup, &undo)
    case .gone, .lost:
      // The destination vouches that the guest never ran there: the source still has all of it.
      try await setup.monitor.client.cont()
      undo.isCommitted = false
      throw Ending.failed(
        "the destination's QEMU ended after the commit, before it ran the guest; it goes on here")
    }
  }

  /// Waits until QEMU has ended the migration and given the guest up.
  private func waitForPostmigrate(_ setup: Setup, _ undo: inout SourceUndo) async throws {
    let deadline = MonotonicClock.nowMs + Self.commitTimeoutMs
    while MonotonicClock.nowMs < deadline {
      let info: MigrationInfo
      do { info = try await setup.monitor.client.queryMigrate(timeoutMs: 5000) } catch {
        // QEMU died, frozen: the destination has everything, and nothing runs here any more.
        if error.isDisconnected, let process = setup.vm.process?.identity, !process.isAlive {
          return
        }
        try? await Task.sleep(nanoseconds: 5_000_000)
        continue
      }
      if info.status == .completed {
        note { $0.record.downtimeMs = info.downtimeMs }
        return
      }
      if info.status == .failed || info.status == .cancelled {
        // QEMU did not take SHUT 0: it has resumed the guest by itself.
        undo.isCommitted = false
        throw Ending.failed("QEMU refused the commit: \(info.errorDescription ?? info.status.name)")
      }
      try? await Task.sleep(nanoseconds: 1_000_000)
    }
    throw Ending.failed("QEMU did not end the migration after SHUT 0")
  }

  /// Tells the destination to run the guest; asks again over new connections until it answers.
  private func finishAtDestination(_ setup: Setup) async -> PeerMessage.Settlement? {
    do {
      try setup.link.send(.commit)
      while true {
        guard let event = await mailbox.take(timeoutMs: Self.commitTimeoutMs) else { break }
        switch event {
        case .peer(.message(.running)): return .running
        case .peer(.message(.failed)): return .lost
        case .peer(.ended): throw Ending.failed("connection lost")
        default: continue  // cancelling is too late; the source's QEMU may go
        }
      }
    } catch {
      logger.warning(
        "connection lost during the commit, asking again", metadata: ["error": "\(error)"])
    }
    return await PeerSettlement.settle(
      id: id, peer: request.destination, verdict: .commit, patienceMs: Self.settlePatienceMs,
      security: PeerSecurity(configuration), logger: logger)
  }

  /// The guest runs elsewhere: this QEMU has nothing to do any more.
  private func retireSource(_ setup: Setup, _ undo: inout SourceUndo) async {
    if !request.keepSource {
      do { try await setup.monitor.client.quit() } catch {
        if !error.isDisconnected {
          logger.warning("the source's QEMU did not quit", metadata: ["error": "\(error)"])
        }
      }
    } else if let settings = undo.settings {
      try? await setup.monitor.client.restore(
        capabilities: settings.capabilities, parameters: settings.parameters)
    }
    // A guest that came here by Godwit leaves the folder that it came with.
    let folders = configuration.runtimeDirectory + "/vm-"
    if !request.keepSource, setup.vm.monitorPath.hasPrefix(folders),
      let end = setup.vm.monitorPath.lastIndex(of: "/")
    {
      IncomingQEMU.removeDirectory(String(setup.vm.monitorPath[..<end]))
    }
    try? await undo.journal?.append(.done(outcome: "completed"))
    undo.journal?.remove()
  }
}
