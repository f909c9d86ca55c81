import HostIO
import Logging
import QMP
import Strategy
import Wire

/// A migration into this host that an earlier agent left behind, or that has ended: carries out what
/// `DestinationCommitMachine` makes of its journal.
struct DestinationRecovery {
  let id: String
  let agent: MigrationAgent

  private var path: String { agent.configuration.journalDirectory + "/" + id + Journal.suffix }

  /// Carries a verdict of the source's out. Repeating it gives the same answer.
  func carryOut(_ verdict: CommitVerdict) async throws -> CommitSettlement {
    let (end, settlement) = try await run(verdict, nil)
    guard let settlement else { throw Ending.failed("not settled yet: \(end.text)") }
    return settlement
  }

  /// Without a verdict: what was not PREPARED is taken back, what was resuming goes on.
  ///
  /// - Parameter word: a person's, in the source's place.
  func recover(_ word: OperatorWord<DestinationEnd>? = nil) async throws -> DestinationEnd {
    try await run(nil, word).end
  }

  private func run(
    _ verdict: CommitVerdict?, _ word: OperatorWord<DestinationEnd>?
  ) async throws -> (end: DestinationEnd, answer: CommitSettlement?) {
    let records = Journal.exists(at: path) ? try Journal.records(at: path) : []
    let story = DestinationStory(records)
    var machine = DestinationCommitMachine(
      replaying: story.facts, verdict: verdict, word: word)
    var answer: CommitSettlement?
    while true {
      switch machine.effect {
      case .stop(let end): return (end, answer)
      case .answer(let settlement):
        answer = settlement
        machine.handle(.performed)
      case let effect: machine.handle(await perform(effect, story))
      }
    }
  }

  private func perform(
    _ effect: DestinationCommitMachine.Effect, _ story: DestinationStory
  ) async -> DestinationCommitMachine.Input {
    switch effect {
    case .append(let record): return await append(record, story)
    case .checkQEMU: return story.process?.isAlive == true ? .performed : .qemuGone
    case .resumeGuest: return await resume(story)
    case .pull: return await pull(story)
    case .discard: return await discard(story)
    // Only a session that receives pages itself has these.
    case .load, .announceLoaded, .awaitVerdict, .answer, .stop: return .failed
    }
  }

  private func resume(_ story: DestinationStory) async -> DestinationCommitMachine.Input {
    guard let qemu = story.qemu, let process = story.process, process.isAlive else {
      return .qemuGone
    }
    // A guest that waits for a page may hold QEMU's main loop, and with it `cont`.
    if story.pull != nil { _ = await pull(story) }
    guard story.start?.resumeGuest == true, await !agent.hasResumed(id) else { return .performed }
    do {
      let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 10_000)
      let input = await DestinationQEMU.resume(monitor.client, process, agent.logger)
      await monitor.close()
      // A guest that its operator stops afterwards stays stopped, however long its pages take.
      if input == .performed { await agent.noteResumed(id) }
      return input
    } catch {
      agent.logger.warning(
        "QEMU cannot be asked", metadata: ["migration": "\(id)", "error": "\(error)"])
      return process.isAlive ? .failed : .qemuGone
    }
  }

  /// The pages come beside the recovery; `failed` until they are through.
  private func pull(_ story: DestinationStory) async -> DestinationCommitMachine.Input {
    guard let id = MigrationID(self.id), let pull = story.pull, let qemu = story.qemu else {
      return .failed
    }
    if let input = await agent.pullInput(id) { return input }
    guard let process = story.process, process.isAlive else { return .qemuGone }
    do {
      if try await hasEveryPage(qemu.monitorPath) { return .performed }
      let revival = try await PullRevival.begin(
        self.id, pull, monitorPath: qemu.monitorPath, logger: agent.logger
      ) { [agent] in agent.settleSoon(id, source: false) }
      await agent.revive(id, revival)
    } catch {
      agent.logger.error(
        "the guest here lacks pages and its QEMU takes none yet",
        metadata: ["migration": "\(id)", "error": "\(error)"])
      if !process.isAlive { return .qemuGone }
    }
    return .failed
  }

  /// The guest is its own: nothing of the migration is left in its QEMU.
  private func leaveToItself(_ story: DestinationStory) async {
    guard let qemu = story.qemu, story.process?.isAlive == true else { return }
    let kept = IncomingQEMU.keptMonitorPath(qemu.monitorPath)
    _ = try? await Blocking.run { MonitorKeeper.end(kept) }
    guard let monitor = try? await Monitor.connect(path: qemu.monitorPath, timeoutMs: 1000) else {
      return
    }
    let states = (try? await monitor.client.queryMigrateCapabilities())?.states ?? [:]
    for name in ["postcopy-ram", "events"] where states[name] == true {
      try? await monitor.client.migrateSetCapabilities([name: false])
    }
    await monitor.close()
  }

  /// The last page came before the agent died. A QEMU that doesn't say so has not.
  private func hasEveryPage(_ monitorPath: String) async throws -> Bool {
    guard let monitor = try? await Monitor.connect(path: monitorPath, timeoutMs: 1000) else {
      return false
    }
    let info = try? await monitor.client.queryMigrate(timeoutMs: 1000)
    await monitor.close()
    return info?.status == .completed
  }

  private func discard(_ story: DestinationStory) async -> DestinationCommitMachine.Input {
    // An agent that died between starting QEMU and writing its pid down left one that only its
    // monitor's path gives away.
    let label = IncomingQEMU.label(id)
    var process = story.process
    do {
      if process == nil {
        process = try await IncomingQEMU.find(id: label, configuration: agent.configuration)?
          .identity
      }
      if let process, process.isAlive { _ = try await process.terminate(graceMs: 1000) }
    } catch {
      agent.logger.warning("QEMU not ended", metadata: ["migration": "\(id)", "error": "\(error)"])
    }
    guard process?.isAlive != true else { return .failed }
    IncomingQEMU.removeDirectory(IncomingQEMU.directoryPath(id: label, agent.configuration))
    _ = try? await Blocking.run { IncomingDisks.discard(story, label: label) }
    return .performed
  }

  private func remember(
    _ outcome: DestinationOutcome, _ end: DestinationEnd, _ story: DestinationStory
  ) async {
    var record = MigrationRecord(
      outcome: outcome == .running ? .completed : .failed,
      reason: "settled later, from the journal: \(end.text)")
    (record.id, record.vm, record.side) = (id, story.start?.vm, "destination")
    (record.source, record.startedAt) = (story.start?.source, MonotonicClock.wallSeconds)
    await agent.remember(record)
  }

  private func append(
    _ record: DestinationRecord, _ story: DestinationStory
  ) async -> DestinationCommitMachine.Input {
    let line = JournalRecord(record, reason: "settled after a restart")
    do {
      try await Journal(directory: agent.configuration.journalDirectory, id: id).append(line)
    } catch {
      agent.logger.error(
        "journal not written", metadata: ["migration": "\(id)", "error": "\(error)"])
      return .failed
    }
    if case .done(let outcome) = record {
      await agent.endRevival(id)
      await agent.forgetResumed(id)
      if outcome == .running { await leaveToItself(story) }
      let end = DestinationEnd.ended(outcome)
      agent.logger.notice(
        "migration into this host", metadata: ["migration": "\(id)", "state": "\(end.text)"])
      await remember(outcome, end, story)
    }
    return .performed
  }
}
