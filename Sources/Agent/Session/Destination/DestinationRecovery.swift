import HostIO
import Logging
import QMP

/// A migration into this host that an earlier agent left behind, read from its journal.
struct DestinationRecovery {
  let id: String
  let agent: MigrationAgent

  private var path: String { agent.configuration.journalDirectory + "/" + id + Journal.suffix }

  /// What the journal says, condensed.
  struct Story {
    var start: JournalRecord.DestinationStart?
    var qemu: JournalRecord.QEMUHandle?
    var isPrepared = false
    var isResuming = false
    var outcome: String?

    init(_ records: [JournalRecord]) {
      for record in records {
        switch record {
        case .destinationBegan(let start): self.start = start
        case .destinationStarted(let start, let handle): (self.start, qemu) = (start, handle)
        case .prepared: isPrepared = true
        case .resuming: isResuming = true
        case .done(let outcome): self.outcome = outcome
        case .sourceBegan, .committing, .committed, .takenBack: break
        }
      }
    }

    var process: ProcessIdentity? {
      qemu.map { ProcessIdentity(pid: $0.pid, startTime: $0.processStart) }
    }
  }

  /// Carries a verdict of the source's out. Repeating it gives the same answer.
  func carryOut(_ verdict: PeerMessage.Verdict) async throws -> PeerMessage.Settlement {
    guard let records = try? Journal.records(at: path) else { return .gone }
    let story = Story(records)
    switch story.outcome {
    case JournalRecord.outcomeRunning: return .running
    case JournalRecord.outcomeLost: return .lost
    case .some: return .gone
    case nil: break
    }
    if story.isResuming { return try await resume(story) }
    guard story.isPrepared, verdict == .commit else {
      try await discard(story, outcome: "given up by the source after a restart")
      return .gone
    }
    guard story.process?.isAlive == true else {
      try await discard(story, outcome: JournalRecord.outcomeLost)
      return .lost
    }
    try await Journal(directory: agent.configuration.journalDirectory, id: id).append(.resuming)
    return try await resume(story)
  }

  /// After a restart without a verdict: what was not PREPARED is taken back, what was resuming goes on.
  func recover() async throws {
    let story = Story(try Journal.records(at: path))
    guard story.start != nil, story.outcome == nil else { return }
    if story.isResuming {
      _ = try await resume(story)
    } else if !story.isPrepared {
      try await discard(story, outcome: "the agent restarted before the guest was loaded")
    } else {
      agent.logger.warning(
        "prepared, waiting for the source's verdict", metadata: ["migration": "\(id)"])
    }
  }

  /// Runs the guest (again: `cont` on a running guest does nothing).
  private func resume(_ story: Story) async throws -> PeerMessage.Settlement {
    if let qemu = story.qemu, story.process?.isAlive == true, story.start?.resumeGuest == true {
      let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 10_000)
      if !(try await monitor.client.queryStatus().isRunning) { try await monitor.client.cont() }
      await monitor.close()
    }
    try await Journal(directory: agent.configuration.journalDirectory, id: id)
      .append(.done(outcome: JournalRecord.outcomeRunning))
    agent.logger.notice("the guest runs here", metadata: ["migration": "\(id)"])
    return .running
  }

  private func discard(_ story: Story, outcome: String) async throws {
    // An agent that died between starting QEMU and writing its pid down left one that only its
    // monitor's path gives away.
    let label = IncomingQEMU.label(id)
    var process = story.process
    if process == nil {
      process = try await IncomingQEMU.find(id: label, configuration: agent.configuration)?.identity
    }
    if let process, process.isAlive { _ = try await process.terminate(graceMs: 1000) }
    IncomingQEMU.removeDirectory(IncomingQEMU.directoryPath(id: label, agent.configuration))
    let journal = try Journal(directory: agent.configuration.journalDirectory, id: id)
    try await journal.append(.done(outcome: outcome))
    agent.logger.notice(
      "incoming migration taken back", metadata: ["migration": "\(id)", "reason": "\(outcome)"])
  }
}
