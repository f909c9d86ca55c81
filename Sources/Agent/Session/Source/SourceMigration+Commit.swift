import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Strategy

// Carries out what `SourceCommitMachine` decides: the commit, and the way back.
extension SourceMigration {
  static let commitTimeoutMs: UInt64 = 20_000
  /// How long a completed migration's QEMU may take to say how long the guest stood still.
  private static let downtimePatienceMs: UInt64 = 2000
  /// How long `migrate` waits for a lost destination after the commit; the agent goes on trying.
  static let settlePatienceMs: UInt64 = 60_000

  /// Everything is loaded and compared: the hold of fault injection, and the last moment to cancel.
  func readyToCommit(_ copy: Copy) async throws {
    try await enter(.commit)
    try checkPull(copy)
    if state.read({ $0.isCancelled }) { throw Ending.cancelled }
  }

  /// Runs the machine to where it has nothing more to do.
  func settle(_ machine: inout SourceCommitMachine, _ undo: inout SourceUndo) async -> SourceEnd {
    while true {
      let effect = machine.effect
      if case .stop(let end) = effect { return end }
      machine.handle(await perform(effect, &undo))
    }
  }

  private func perform(
    _ effect: SourceCommitMachine.Effect, _ undo: inout SourceUndo
  ) async -> SourceCommitMachine.Input {
    switch effect {
    case .copy, .stop: return .gaveUp
    case .append(let record): return await append(record, &undo)
    case .answerShut:
      // A broken socket is no verdict: what QEMU says of its migration is.
      do { try undo.relay?.answer(.shut(0)) } catch {
        logger.warning("SHUT 0 not taken", metadata: ["error": "\(error)"])
      }
      return .performed
    case .askMigration: return await askMigration(undo)
    case .announce(.commit):
      _ = try? undo.link?.send(.commit)
      return .performed
    case .announce(.abort):
      _ = try? undo.link?.send(.abort(reason: state.read { $0.record.reason } ?? "failed"))
      return .performed
    case .awaitAnswer: return await heard(await awaitAnswer(), undo)
    case .settle(let verdict):
      let settlement = await PeerSettlement.settle(
        id: id, peer: request.destination, verdict: verdict,
        patienceMs: verdict == .commit ? Self.settlePatienceMs : 0,
        security: PeerSecurity(configuration), logger: logger)
      return await heard(settlement, undo)
    case .giveGuestBack:
      // First of all: nothing waits for the network any more.
      undo.disks?.cut()
      let input = await giveGuestBack(undo)
      await tidyDisks(undo)
      return input
    case .restoreSettings:
      await restoreSettings(undo)
      return .performed
    case .resumeGuest:
      guard undo.guestWasRunning, let monitor = undo.monitor else { return .performed }
      return await SourceQEMU(monitor.client, undo.process).resumeGuest()
    case .serve: return await servePull()
    case .retire:
      await retire(undo)
      return .performed
    }
  }

  private func append(
    _ record: SourceRecord, _ undo: inout SourceUndo
  ) async -> SourceCommitMachine.Input {
    if record == .committed { undo.givenUpAtMs = MonotonicClock.nowMs }
    guard let journal = undo.journal else { return .performed }
    do {
      try await journal.append(JournalRecord(record, reason: state.read { $0.record.reason }))
    } catch {
      logger.error("journal not written", metadata: ["error": "\(error)"])
      if record == .committing || record == .committed { describe(error, undo) }
      return .failed
    }
    if case .done = record { journal.remove() }
    return .performed
  }

  /// Waits until QEMU has ended the migration, one way or the other.
  private func askMigration(_ undo: SourceUndo) async -> SourceCommitMachine.Input {
    guard let monitor = undo.monitor else { return .failed }
    let deadline = MonotonicClock.nowMs + Self.commitTimeoutMs
    while MonotonicClock.nowMs < deadline {
      let info: MigrationInfo
      do { info = try await monitor.client.queryMigrate(timeoutMs: 5000) } catch {
        // QEMU died, frozen: the destination has everything, and nothing runs here any more.
        if error.isDisconnected, let process = undo.process, !process.isAlive { return .qemuGone }
        try? await Task.sleep(nanoseconds: 5_000_000)
        continue
      }
      if info.status == .completed {
        note { state in
          state.record.downtimeMs = info.downtimeMs
          state.progress.phase = .commit
        }
        return .completed
      }
      if info.status == .failed || info.status == .cancelled {
        // QEMU did not take SHUT 0: it has resumed the guest by itself.
        let why = info.errorDescription ?? info.status.name
        describe(Ending.failed("QEMU refused the commit: \(why)"), undo)
        return .ended
      }
      try? await Task.sleep(nanoseconds: 1_000_000)
    }
    return .failed
  }

  /// The destination's answer to `commit`; nil when the connection gives none.
  private func awaitAnswer() async -> CommitSettlement? {
    while let event = await mailbox.take(timeoutMs: Self.commitTimeoutMs) {
      switch event {
      case .peer(.message(.running)): return .running
      case .peer(.message(.failed)): return .lost
      case .pull(let event): notePull(event)
      case .peer(.ended):
        logger.warning("connection lost during the commit, asking again")
        return nil
      default: continue  // cancelling is too late; the source's QEMU may go
      }
    }
    return nil
  }

  private func heard(
    _ settlement: CommitSettlement?, _ undo: SourceUndo
  ) async -> SourceCommitMachine.Input {
    guard let settlement else { return .failed }
    if settlement == .running, let givenUpAtMs = undo.givenUpAtMs {
      let waitedMs = MonotonicClock.nowMs - givenUpAtMs
      await learnDowntime(undo)
      note { $0.record.downtimeMs = ($0.record.downtimeMs ?? 0) + waitedMs }
    }
    return .settled(settlement)
  }

  /// QEMU says that it has completed a moment before it knows how long the guest stood still. The guest was not to wait
  /// for that number; now it runs.
  private func learnDowntime(_ undo: SourceUndo) async {
    let deadlineMs = MonotonicClock.nowMs + Self.downtimePatienceMs
    while state.read({ $0.record.downtimeMs ?? 0 }) == 0, MonotonicClock.nowMs < deadlineMs {
      guard let info = try? await undo.monitor?.client.queryMigrate(timeoutMs: 1000) else { return }
      note { $0.record.downtimeMs = info.downtimeMs }
      try? await Task.sleep(nanoseconds: 1_000_000)
    }
  }

  /// The guest runs elsewhere: this QEMU has nothing to do any more.
  private func retire(_ undo: SourceUndo) async {
    // While QEMU is there: groups with threads in them can't be removed.
    await undo.vcpus?.restore()
    await keepMemory(undo)
    guard let monitor = undo.monitor else { return }
    guard !request.keepSource else { return await restoreSettings(undo) }
    do { try await monitor.client.quit() } catch {
      logger.warning("the source's QEMU did not quit", metadata: ["error": "\(error)"])
    }
    IncomingQEMU.removeFolder(ofMonitor: monitor.path, configuration)
  }

  private func restoreSettings(_ undo: SourceUndo) async {
    guard let settings = undo.settings, let monitor = undo.monitor, !monitor.isClosed else {
      return
    }
    do {
      try await monitor.client.restore(
        capabilities: settings.capabilities, parameters: settings.parameters)
    } catch {
      logger.warning("QEMU's migration settings not restored", metadata: ["error": "\(error)"])
    }
  }
}
