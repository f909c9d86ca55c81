import Base
import FoundationEssentials
import HostIO
import Logging
import QMP
import Strategy

// Carries out what `DestinationCommitMachine` decides, from the first message to the running guest.
extension DestinationMigration {
  /// Runs the machine to where it has nothing more to do.
  func settle(_ undo: inout DestinationUndo) async -> DestinationEnd {
    var machine = DestinationCommitMachine()
    while true {
      let effect = machine.effect
      if case .stop(let end) = effect { return end }
      machine.handle(await perform(effect, &undo))
    }
  }

  private func perform(
    _ effect: DestinationCommitMachine.Effect, _ undo: inout DestinationUndo
  ) async -> DestinationCommitMachine.Input {
    switch effect {
    case .load:
      do {
        try await receive(&undo)
        return .loaded(pulls: undo.relay?.pull != nil)
      } catch {
        undo.fail(error)
        return .gaveUp
      }
    case .append(let record): return await append(record, &undo)
    case .announceLoaded:
      enter(.commit)
      try? await holds.hold(.switchover)
      _ = try? link.send(.loaded)
      return .performed
    case .awaitVerdict: return await awaitVerdict(&undo)
    case .checkQEMU:
      try? await holds.hold(.commit)
      undo.verdictAtMs = MonotonicClock.nowMs
      if undo.qemu?.identity.isAlive == true { return .performed }
      undo.fail(Ending.failed("the destination's QEMU died before the guest ran in it"))
      return .qemuGone
    case .resumeGuest: return await resumeGuest(&undo)
    case .pull: return await awaitPull(&undo)
    case .discard: return await discard(undo)
    case .answer(let settlement):
      answer(settlement, &undo)
      return .performed
    case .stop: return .failed
    }
  }

  private func append(
    _ record: DestinationRecord, _ undo: inout DestinationUndo
  ) async -> DestinationCommitMachine.Input {
    guard let journal = undo.journal else { return .performed }
    do {
      try await journal.append(JournalRecord(record, reason: undo.failure.map(describe)))
    } catch {
      logger.error("journal not written", metadata: ["error": "\(error)"])
      undo.fail(error)
      return .failed
    }
    // Only a guest that was taken over, or lost here, may be asked about again.
    if record == .done(.discarded) { journal.remove() }
    return .performed
  }

  /// PREPARED: waits for the source's word, on this connection or, when it is gone, on another.
  private func awaitVerdict(
    _ undo: inout DestinationUndo
  ) async -> DestinationCommitMachine.Input {
    while true {
      guard let event = await mailbox.take(timeoutMs: Self.answerTimeoutMs) else {
        logger.warning("prepared, waiting for the source's word")
        continue
      }
      switch event {
      case .peer(.message(.commit)): return .verdict(.commit)
      case .peer(.message(.abort(let reason))):
        undo.fail(Ending.failed("given up by the source: \(reason)"))
        return .verdict(.abort)
      case .verdict(let verdict, let answer):
        undo.asker = answer
        if verdict == .abort { undo.fail(Ending.failed("given up by the source")) }
        return .verdict(verdict)
      case .qemuGone:
        undo.fail(Ending.failed("the destination's QEMU died before the guest ran in it"))
        return .qemuGone
      case .peer(.message(.runState(let isRunning))): await noteRunState(isRunning, &undo)
      case .peer(.message(let message)): await audit(message, &undo)
      case .relay(.failed(let failure)) where undo.relay?.pull != nil:
        undo.pullFailure = undo.pullFailure ?? failure
      case .peer(.ended), .relay(.failed):
        // In doubt: the source may have committed. It will come back and say.
        logger.warning("the source is gone after PREPARED; waiting for its verdict")
      case .relay(.streamFed), .relay(.pull), .relay(.pullConnection), .peer(.connection): break
      }
    }
  }

  /// The guest was paused, or went on, since the migration began: it arrives like that, whatever becomes of this agent.
  private func noteRunState(_ isRunning: Bool, _ undo: inout DestinationUndo) async {
    do {
      guard !undo.hasRunState else { throw RelayFailure.protocolViolation("said twice") }
      undo.hasRunState = true
      try await undo.journal?.append(.guestRan(isRunning))
      undo.resumesGuest = isRunning
      logger.info("the guest's run state changed", metadata: ["isRunning": "\(isRunning)"])
      try link.send(.runStateNoted)
    } catch {
      _ = try? link.send(.abort(reason: "the guest's run state cannot be kept: \(error)"))
    }
  }

  /// The comparison of pages; one that fails ends the connection, and the source gives up.
  private func audit(_ message: PeerMessage, _ undo: inout DestinationUndo) async {
    guard let qemu = undo.qemu else { return }
    do {
      switch message {
      case .auditPages(let block, let firstPage, let digests):
        try await undo.audit.check(
          block: block, firstPage: firstPage, digests: digests, qemu, undo.relay?.pull)
      case .auditEnd:
        try link.send(undo.audit.message)
        undo.relay?.pull?.auditEnded()
      default: logger.warning("unexpected message", metadata: ["message": "\(message)"])
      }
    } catch {
      _ = try? link.send(.abort(reason: "pages cannot be compared: \(error)"))
    }
  }

  /// Runs the guest: the source has given it up for good.
  private func resumeGuest(
    _ undo: inout DestinationUndo
  ) async -> DestinationCommitMachine.Input {
    guard let qemu = undo.qemu else { return .qemuGone }
    guard undo.resumesGuest else { return .performed }
    let input = await DestinationQEMU.resume(qemu.monitor.client, qemu.identity, logger)
    if input == .refused {
      undo.fail(Ending.failed("the destination's QEMU refused to run the guest"))
    }
    return input
  }

  /// Leaves nothing behind (I3).
  private func discard(_ undo: DestinationUndo) async -> DestinationCommitMachine.Input {
    let (relay, disks) = (undo.relay, undo.disks)
    _ = try? await Blocking.run { relay?.stop() }
    await undo.qemu?.discard()
    guard undo.qemu?.identity.isAlive != true else { return .failed }
    state.update { $0.disks = nil }
    _ = try? await Blocking.run { disks?.discard() }
    return .performed
  }

  private func answer(_ settlement: CommitSettlement, _ undo: inout DestinationUndo) {
    if settlement == .running { noteRunning(undo) }
    if let asker = undo.asker {
      undo.asker = nil
      return asker(settlement)
    }
    let message: PeerMessage
    if settlement == .running {
      message = .running(afterMs: MonotonicClock.nowMs - (undo.verdictAtMs ?? 0))
    } else if case .refused(let refusals) = undo.failure as? Ending {
      message = .refused(refusals)
    } else {
      message = .failed(reason: undo.failure.map(describe) ?? settlement.rawValue)
    }
    _ = try? link.send(message)
  }

  private func noteRunning(_ undo: DestinationUndo) {
    state.update { state in
      state.progress.phase = undo.relay?.pull == nil ? .done : .pull
      guard state.progress.phase == .done else { return }
      (state.progress.progressPermille, state.progress.etaMs) = (1000, 0)
    }
    let vm = state.read { $0.progress.vm }
    logger.info("the guest runs here", metadata: ["vm": "\(vm)"])
  }

  /// QEMU's settings as they were, once the guest is its own.
  func restoreEvents(_ qemu: IncomingQEMU) async {
    let capabilities = try? await qemu.monitor.client.queryMigrateCapabilities()
    if capabilities?.exists("events") == true {
      try? await qemu.monitor.client.migrateSetCapabilities(["events": false])
    }
    if capabilities?.states["postcopy-ram"] == true {
      let path = IncomingQEMU.keptMonitorPath(qemu.monitorPath)
      try? await Blocking.run { MonitorKeeper.end(path) }
      try? await qemu.monitor.client.migrateSetCapabilities(["postcopy-ram": false])
    }
  }
}
