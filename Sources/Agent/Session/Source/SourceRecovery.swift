import HostIO
import Logging
import QMP
import Strategy
import Wire

/// A migration out of this host that an earlier agent left behind: carries out what
/// `SourceCommitMachine` makes of its journal.
struct SourceRecovery {
  static let attemptsMax = 200

  let id: String
  let agent: MigrationAgent

  private var path: String { agent.configuration.journalDirectory + "/" + id + Journal.suffix }
  private var journal: Journal {
    get throws { try Journal(directory: agent.configuration.journalDirectory, id: id) }
  }

  /// Settles what can be settled now.
  ///
  /// - Parameter word: a person's, for where no agent may decide.
  func recover(_ word: OperatorWord<SourceEnd>? = nil) async throws -> SourceEnd {
    // Whoever settled it before may have removed it.
    let records = Journal.exists(at: path) ? try Journal.records(at: path) : []
    let story = SourceStory(records)
    guard let start = story.start, let id = MigrationID(id) else { return .nothing }
    // First of all: whatever becomes of the migration, a guest that runs here is slowed down till then.
    if let vcpus = story.vcpus { await giveBack(vcpus) }
    var machine = SourceCommitMachine(replaying: story.facts, word: word)
    while true {
      let effect = machine.effect
      if case .stop(let end) = effect {
        agent.logger.notice(
          "migration out of this host", metadata: ["migration": "\(id)", "state": "\(end.text)"])
        return end
      }
      machine.handle(await perform(effect, story, start, id))
    }
  }

  private func giveBack(_ vcpus: VCPUSnapshot) async {
    do {
      let troubles = try await Blocking.run { vcpus.restore() }
      guard troubles.isEmpty else {
        throw VCPUError.unavailable(troubles.joined(separator: "; "))
      }
      try await journal.append(.vcpusRestored)
    } catch {
      agent.logger.warning(
        "vCPUs not given back", metadata: ["migration": "\(id)", "error": "\(error)"])
    }
  }

  private func perform(
    _ effect: SourceCommitMachine.Effect, _ story: SourceStory,
    _ start: JournalRecord.SourceStart, _ id: MigrationID
  ) async -> SourceCommitMachine.Input {
    switch effect {
    case .append(let record): return await append(record, story, start)
    case .settle(let verdict):
      let settlement = await PeerSettlement.settle(
        id: id, peer: start.destination, verdict: verdict, patienceMs: 0,
        security: PeerSecurity(agent.configuration), logger: agent.logger)
      return settlement.map { .settled($0) } ?? .failed
    case .askMigration:
      return await withQEMU(story, start, gone: .qemuGone) { try await ask($0) }
    case .giveGuestBack:
      let input = await withQEMU(story, start, gone: .guestBack(mayBePrepared: true)) {
        try await giveGuestBack($0, start)
      }
      // After the guest, which may stand still; and whatever became of QEMU: servers outlive it.
      await ServerMoves.cancel(start.moves ?? [], logger: agent.logger)
      return input
    case .restoreSettings: return await restoreSettings(story, start)
    case .resumeGuest:
      return await withQEMU(story, start, gone: .qemuGone) { client in
        start.wasRunning ? await SourceQEMU(client, story.process).resumeGuest() : .performed
      }
    case .serve: return await serve(story, start, id)
    case .retire:
      guard !start.keepSource else { return await restoreSettings(story, start) }
      let input = await withQEMU(story, start, gone: .performed) { client in
        try await client.quit()
        return .performed
      }
      IncomingQEMU.removeFolder(ofMonitor: start.monitorPath, agent.configuration)
      return input
    // Only a session that moves pages itself has these.
    case .copy, .answerShut, .announce, .awaitAnswer, .stop: return .failed
    }
  }

  private func restoreSettings(
    _ story: SourceStory, _ start: JournalRecord.SourceStart
  ) async -> SourceCommitMachine.Input {
    await withQEMU(story, start, gone: .performed) { client in
      let parameters = try JSONParser.parse(Array(start.parameters.utf8)).object ?? [:]
      try await client.restore(
        capabilities: MigrationCapabilities(start.capabilities),
        parameters: MigrationParameters(parameters))
      return .performed
    }
  }

  /// The pages go on beside the recovery; `failed` until they are through.
  private func serve(
    _ story: SourceStory, _ start: JournalRecord.SourceStart, _ id: MigrationID
  ) async -> SourceCommitMachine.Input {
    if let input = await agent.serveInput(id) { return input }
    if let process = story.process, !process.isAlive {
      // Gone with the pages, or because the destination had them all and only the last record is missing.
      let (peer, security) = (start.destination, PeerSecurity(agent.configuration))
      let token = start.pullToken(id)
      let answer = try? await Blocking.run { PullQuestion.ask(peer, id, token: token, security) }
      switch answer {
      case .hasAll: return .performed
      case .lacksPages: return .qemuGone
      case .unreachable, nil: return .failed
      }
    }
    guard let pull = story.pull else { return .failed }
    do {
      let server = try await RevivedServer.begin(
        start, pull, id, agent.configuration, agent.link, logger: agent.logger
      ) { [agent] in agent.settleSoon(id, source: true) }
      await agent.revive(id, server)
    } catch {
      agent.logger.error(
        "the guest's pages cannot be given",
        metadata: ["migration": "\(id)", "error": "\(error)"])
    }
    return .failed
  }

  /// Does something at the source's QEMU. A monitor that cannot be reached proves nothing: only a
  /// process that is known, and known to have ended, is gone.
  private func withQEMU(
    _ story: SourceStory, _ start: JournalRecord.SourceStart, gone: SourceCommitMachine.Input,
    _ body: (QMPClient) async throws -> SourceCommitMachine.Input
  ) async -> SourceCommitMachine.Input {
    if let process = story.process, !process.isAlive { return gone }
    do {
      let monitor = try await Monitor.connect(path: start.monitorPath, timeoutMs: 10_000)
      let input: SourceCommitMachine.Input
      do { input = try await body(monitor.client) } catch {
        await monitor.close()
        throw error
      }
      await monitor.close()
      return input
    } catch {
      if let process = story.process, !process.isAlive { return gone }
      agent.logger.warning(
        "the source's QEMU cannot be asked", metadata: ["migration": "\(id)", "error": "\(error)"])
      return .failed
    }
  }

  private func ask(_ client: QMPClient) async throws -> SourceCommitMachine.Input {
    for _ in 0..<Self.attemptsMax {
      let info = try await client.queryMigrate()
      if info.status == .completed { return .completed }
      if info.status.isFinal || info.status == .none { return .ended }
      try await Task.sleep(nanoseconds: 50_000_000)
    }
    return .failed
  }

  private func giveGuestBack(
    _ client: QMPClient, _ start: JournalRecord.SourceStart
  ) async throws -> SourceCommitMachine.Input {
    for _ in 0..<Self.attemptsMax {
      let info = try await client.queryMigrate()
      if info.status.isFinal || info.status == .none {
        let status = try await client.queryStatus()
        if info.hasTakenGuestAway(status) { return .completed }
        if start.wasRunning, !status.isRunning,
          [.postMigrate, .finishMigrate].contains(status.state)
        {
          try await client.cont()
        }
        await DiskMirror.tidy(start.mirrors ?? [], client, logger: agent.logger)
        return .guestBack(mayBePrepared: true)
      }
      try await client.migrateCancel()
      try await Task.sleep(nanoseconds: 50_000_000)
    }
    return .failed
  }

  private func append(
    _ record: SourceRecord, _ story: SourceStory, _ start: JournalRecord.SourceStart
  ) async -> SourceCommitMachine.Input {
    do {
      let journal = try journal
      try await journal.append(JournalRecord(record, reason: nil))
      if case .done = record { journal.remove() }
    } catch {
      agent.logger.error(
        "journal not written", metadata: ["migration": "\(id)", "error": "\(error)"])
      return .failed
    }
    // What was taken back before is in the history already.
    if case .done = record { await agent.endServer(id) }
    if case .done(let end) = record, !story.facts.contains(.takenBack) {
      await agent.remember(history(start, end))
    }
    return .performed
  }

  private func history(
    _ start: JournalRecord.SourceStart, _ end: SourceEnd
  ) -> MigrationRecord {
    var record = MigrationRecord(
      outcome: end == .completed ? .completed : .failed,
      reason: "settled later, from the journal: \(end.text)")
    (record.id, record.vm, record.destination) = (id, start.vm, start.destination)
    record.startedAt = start.startedAt
    if end != .completed { record.isGuestSafe = end == .takenBack || end == .returned }
    return record
  }
}
