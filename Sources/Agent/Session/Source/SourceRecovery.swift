import HostIO
import Logging
import QMP
import Wire

/// A migration out of this host that an earlier agent left behind, read from its journal.
///
/// The source decides, and only after asking its own QEMU: `postmigrate` means that the guest was
/// given up, anything else that it is still here.
struct SourceRecovery {
  let id: String
  let agent: MigrationAgent

  private var path: String { agent.configuration.journalDirectory + "/" + id + Journal.suffix }

  /// True when the migration is settled, false when it must be tried again later.
  func recover() async throws -> Bool {
    var start: JournalRecord.SourceStart?
    var (isCommitting, isCommitted, isTakenBack, isDone) = (false, false, false, false)
    for record in try Journal.records(at: path) {
      switch record {
      case .sourceBegan(let begun): start = begun
      case .committing: isCommitting = true
      case .committed: isCommitted = true
      case .takenBack: isTakenBack = true
      case .done: isDone = true
      default: break
      }
    }
    guard let start, let id = MigrationID(id), !isDone else { return true }
    if isTakenBack { return await forget(start, id) }
    if isCommitting, !isCommitted {
      guard let committed = try await askQEMU(start) else {
        agent.logger.error(
          "commit in doubt: the source's QEMU is gone, so only a human knows whether its guest ran on",
          metadata: ["migration": "\(id)", "destination": "\(start.destination)"])
        return false
      }
      isCommitted = committed
      if committed { try await journal.append(.committed) }
    }
    return isCommitted ? try await finish(start, id) : try await takeBack(start, id)
  }

  private var journal: Journal {
    get throws { try Journal(directory: agent.configuration.journalDirectory, id: id) }
  }

  /// Whether QEMU has given the guest up; nil when there is no QEMU to ask.
  private func askQEMU(_ start: JournalRecord.SourceStart) async throws -> Bool? {
    guard isAlive(start) else { return nil }
    let monitor = try await Monitor.connect(path: start.monitorPath, timeoutMs: 10_000)
    defer { Task { await monitor.close() } }
    while true {
      let info = try await monitor.client.queryMigrate()
      if info.status == .completed { return true }
      if info.status.isFinal || info.status == .none { return false }
      try await Task.sleep(nanoseconds: 50_000_000)
    }
  }

  private func isAlive(_ start: JournalRecord.SourceStart) -> Bool {
    ProcessIdentity(pid: start.pid, startTime: start.processStart).isAlive
  }

  /// The guest was given up here: drives the destination to run it.
  private func finish(_ start: JournalRecord.SourceStart, _ id: MigrationID) async throws -> Bool {
    let settlement = await PeerSettlement.settle(
      id: id, peer: start.destination, verdict: .commit, patienceMs: 0,
      security: PeerSecurity(agent.configuration), logger: agent.logger)
    guard let settlement else { return false }
    var record = record(start, .completed, "finished after a restart of the agent")
    if isAlive(start) {
      let monitor = try await Monitor.connect(path: start.monitorPath, timeoutMs: 10_000)
      switch settlement {
      case .running: if !start.keepSource { try? await monitor.client.quit() }
      case .gone, .lost:
        if start.wasRunning { try await monitor.client.cont() }
        record = self.record(start, .failed, "the destination lost the guest before running it")
      }
      await monitor.close()
    } else if settlement != .running {
      agent.logger.error("both QEMUs of the migration are gone", metadata: ["migration": "\(id)"])
      record = self.record(start, .failed, "both QEMUs died during the commit")
    }
    await conclude(record, outcome: record.outcome.rawValue)
    return true
  }

  /// The guest never left: puts QEMU's settings back and has the destination forget it.
  private func takeBack(_ start: JournalRecord.SourceStart, _ id: MigrationID) async throws -> Bool
  {
    if isAlive(start) {
      let monitor = try await Monitor.connect(path: start.monitorPath, timeoutMs: 10_000)
      try await restore(start, monitor.client)
      await monitor.close()
    }
    await agent.remember(record(start, .failed, "the agent restarted during the migration"))
    try await journal.append(.takenBack)
    return await forget(start, id)
  }

  /// Tells the destination that the guest will never come; false when it cannot be told now.
  private func forget(_ start: JournalRecord.SourceStart, _ id: MigrationID) async -> Bool {
    let settlement = await PeerSettlement.settle(
      id: id, peer: start.destination, verdict: .abort, patienceMs: 0,
      security: PeerSecurity(agent.configuration), logger: agent.logger)
    guard settlement != nil else { return false }
    await conclude(nil, outcome: "taken back")
    return true
  }

  private func restore(_ start: JournalRecord.SourceStart, _ client: QMPClient) async throws {
    for _ in 0..<200 {
      let info = try await client.queryMigrate()
      if info.status.isFinal || info.status == .none { break }
      try await client.migrateCancel()
      try await Task.sleep(nanoseconds: 50_000_000)
    }
    let status = try await client.queryStatus()
    if start.wasRunning, !status.isRunning, [.postMigrate, .finishMigrate].contains(status.state) {
      try await client.cont()
    }
    let parameters = try JSONParser.parse(Array(start.parameters.utf8)).object ?? [:]
    try await client.restore(
      capabilities: MigrationCapabilities(start.capabilities),
      parameters: MigrationParameters(parameters))
  }

  private func record(
    _ start: JournalRecord.SourceStart, _ outcome: MigrationRecord.Outcome, _ reason: String
  ) -> MigrationRecord {
    var record = MigrationRecord(outcome: outcome, reason: reason)
    record.id = id
    (record.vm, record.destination) = (start.vm, start.destination)
    record.startedAt = start.startedAt
    return record
  }

  /// - Parameter record: for the history, where it is not there yet.
  private func conclude(_ record: MigrationRecord?, outcome: String) async {
    if let journal = try? journal {
      try? await journal.append(.done(outcome: outcome))
      journal.remove()
    }
    if let record { await agent.remember(record) }
    agent.logger.notice(
      "migration settled",
      metadata: [
        "migration": "\(id)", "outcome": "\(outcome)", "reason": "\(record?.reason ?? "")",
      ])
  }
}
