import FoundationEssentials
import HostIO
import Logging
import QMP
import Strategy

/// What `godwit recover` does: shows what the journals hold, and settles it.
extension MigrationAgent {
  static let monitorTimeoutMs: UInt64 = 2000
  /// What the agent is settling by itself at this moment is waited for so long, in milliseconds; its peer may be silent.
  static let settlingPatienceMs: UInt64 = 15_000

  public func recover(_ request: RecoverRequest) async throws -> [RecoveryItem] {
    var open: [OpenJournal] = []
    for path in Journal.unfinished(in: configuration.journalDirectory) {
      let journal = OpenJournal(path: path)
      if !journal.isClosed, !isActive(journal.id) { open.append(journal) }
    }
    if let target = request.target {
      open = open.filter { $0.answers(to: target) }
      guard !open.isEmpty else { throw RecoverError.nothingOpen(target) }
    }
    if request.decision != nil {
      guard request.target != nil, open.count == 1 else {
        throw RecoverError.notOne(open.map(\.id))
      }
    }
    var items: [RecoveryItem] = []
    for journal in open { items.append(await settle(journal, request.decision)) }
    return items
  }

  /// Why a guest whose earlier migration isn't settled may not be moved now: its recovery may still end QEMU's migration, or
  /// run the guest again. Nil: none is open.
  ///
  /// - Parameter isMeant: whether an open migration is of that guest.
  func unsettledRefusal(
    of vm: String, _ isMeant: (SourceStory, JournalRecord.SourceStart) -> Bool
  ) -> Refusal? {
    for path in Journal.unfinished(in: configuration.journalDirectory) {
      let journal = OpenJournal(path: path)
      guard !journal.isClosed, !isActive(journal.id),
        let story = journal.source ?? journal.damage.map({ SourceStory($0.intact) }),
        let start = story.start, isMeant(story, start),
        journal.damage != nil || !story.facts.contains(.takenBack)
      else { continue }
      return Refusal(
        .migrationRunning, "migration \(journal.id) of \(vm) is not settled yet",
        remedy: "see `godwit recover \(vm)`")
    }
    return nil
  }

  private nonisolated func settle(
    _ journal: OpenJournal, _ decision: OperatorDecision?
  ) async -> RecoveryItem {
    var item = RecoveryItem(id: journal.id, state: "")
    item.phase = journal.phase
    do {
      if let damage = journal.damage { return try forget(journal, damage, decision, item) }
      if let start = journal.source?.start {
        (item.vm, item.side, item.peer) = (start.vm, "source", start.destination)
        let recovery = SourceRecovery(id: journal.id, agent: self)
        let (end, isIgnored) = try await settle(journal.id, decision) {
          try await recovery.recover($0)
        }
        (item.state, item.isSettled, item.needsHuman) = (end.text, end.isSettled, end.needsHuman)
        if isIgnored { item.note(ignored: decision) }
        item.choices = RecoveryItem.Choice.atSource(end)
        item.qemu = await qemuStatus(journal.source?.process, start.monitorPath)
      } else if let start = journal.destination?.start {
        (item.vm, item.side, item.peer) = (start.vm, "destination", start.source)
        let recovery = DestinationRecovery(id: journal.id, agent: self)
        let (end, isIgnored) = try await settle(journal.id, decision) {
          try await recovery.recover($0)
        }
        (item.state, item.isSettled, item.needsHuman) = (end.text, end.isSettled, !end.isSettled)
        if isIgnored { item.note(ignored: decision) }
        item.choices = RecoveryItem.Choice.atDestination(end)
        if let qemu = journal.destination?.qemu {
          item.qemu = await qemuStatus(journal.destination?.process, qemu.monitorPath)
        }
      }
    } catch {
      (item.state, item.needsHuman) = ("not settled: \(error)", true)
    }
    return item
  }

  /// Settles what agents can, then what a person decides, if that is offered in the state that is left.
  ///
  /// - Returns: where it stands, and whether the decision was none of those offered.
  private nonisolated func settle<End: RecoveryEnd>(
    _ id: String, _ decision: OperatorDecision?,
    _ recover: (OperatorWord<End>?) async throws -> End
  ) async throws -> (end: End, isIgnored: Bool) {
    try await exclusively(id, patienceMs: Self.settlingPatienceMs) {
      let seen = try await recover(nil)
      guard let decision, !seen.isSettled else { return (seen, false) }
      guard seen.decisions.contains(decision) else { return (seen, true) }
      return (try await recover(OperatorWord(decision, seen: seen)), false)
    }
  }

  /// A journal that cannot be read is shown, and put aside on a person's word; never guessed at.
  private nonisolated func forget(
    _ journal: OpenJournal, _ damage: JournalDamage, _ decision: OperatorDecision?,
    _ item: RecoveryItem
  ) throws -> RecoveryItem {
    var item = item
    let kept = journal.path + ".forgotten"
    if decision == .forget {
      try FileManager.default.moveItem(atPath: journal.path, toPath: kept)
      (item.state, item.isSettled) = ("\(damage); kept as \(kept)", true)
      return item
    }
    (item.state, item.needsHuman) = ("\(damage); nothing is done about its guest", true)
    if let start = SourceStory(damage.intact).start {
      (item.vm, item.side, item.peer) = (start.vm, "source", start.destination)
    } else if let start = DestinationStory(damage.intact).start {
      (item.vm, item.side, item.peer) = (start.vm, "destination", start.source)
    }
    item.choices = [
      .init(
        decision: .forget,
        effect: "the journal is kept as \(kept); nothing is done to any QEMU, here or there")
    ]
    return item
  }

  /// QEMU's run state as its monitor tells it; `gone` when its process is known to have ended.
  private nonisolated func qemuStatus(_ process: ProcessIdentity?, _ path: String) async -> String?
  {
    if process?.isAlive == false { return "gone" }
    guard let monitor = try? await Monitor.connect(path: path, timeoutMs: Self.monitorTimeoutMs)
    else { return nil }
    let status = try? await monitor.client.queryStatus(timeoutMs: Self.monitorTimeoutMs)
    await monitor.close()
    return status?.state.name
  }
}

extension RecoveryItem {
  /// Says that a person's decision is none of those that this state leaves open.
  fileprivate mutating func note(ignored decision: OperatorDecision?) {
    guard let decision else { return }
    state += "; --\(decision.rawValue) can't be decided here, so nothing came of it"
  }
}

/// A journal file that belongs to no running migration.
struct OpenJournal {
  let path: String
  let id: String
  var source: SourceStory?
  var destination: DestinationStory?
  var damage: JournalDamage?
  /// Name of the last record.
  var phase: String?
  /// Nothing is left to do about it.
  var isClosed = false

  init(path: String) {
    self.path = path
    id = String((path.split(separator: "/").last ?? "").dropLast(Journal.suffix.count))
    let records: [JournalRecord]
    do { records = try Journal.records(at: path) } catch {
      damage = error as? JournalDamage ?? JournalDamage(.unreadable, path: path)
      phase = damage?.intact.last(where: \.isStep)?.name
      return
    }
    phase = records.last(where: \.isStep)?.name
    let (source, destination) = (SourceStory(records), DestinationStory(records))
    if source.start != nil { self.source = source }
    if destination.start != nil { self.destination = destination }
    // Torn before its first record: nothing had begun.
    isClosed =
      source.facts.contains(.done) || destination.facts.outcome != nil
      || (source.start == nil && destination.start == nil)
  }

  func answers(to target: String) -> Bool {
    if id == target || (target.count >= 8 && id.hasPrefix(target)) { return true }
    if let start = source?.start ?? damage.flatMap({ SourceStory($0.intact).start }) {
      return start.vm == target || "qmp:" + start.monitorPath == target
    }
    return (destination?.start ?? damage.flatMap { DestinationStory($0.intact).start })?.vm
      == target
  }
}

/// Why `recover` cannot do what it was told.
enum RecoverError: Error, CustomStringConvertible {
  case nothingOpen(String)
  case notOne([String])

  var description: String {
    switch self {
    case .nothingOpen(let target):
      "nothing is left of a migration of \"\(target)\" on this host; `godwit recover` lists what is"
    case .notOne(let ids):
      "a decision is about one migration; name it by its id"
        + (ids.isEmpty ? "" : " (\(ids.joined(separator: ", ")))")
    }
  }
}
