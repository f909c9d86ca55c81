import FoundationEssentials
import HostIO
import Logging
public import ServiceLifecycle

/// Settles what earlier agents of this host left behind, at the start and until nothing is left.
///
/// Each migration has a task of its own: a peer that does not answer holds up nobody's but its own. What needs no peer (a
/// guest's processors that are still limited, above all) is the first step of each.
public struct RecoveryService: Service {
  static let intervalMs: UInt64 = 2000
  /// Ended incoming migrations may be asked about again; their journals stay this long.
  static let keepSeconds: Int64 = 7 * 24 * 3600

  private let agent: MigrationAgent
  /// Migrations that are being settled by this service now.
  private let underWay = Guarded<Set<String>>([])

  public init(agent: MigrationAgent) { self.agent = agent }

  /// Goes on until the graceful shutdown. What stays open is tried again after 2 seconds at first,
  /// once a minute at last.
  public func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        var schedule = Schedule()
        while !Task.isCancelled {
          for (path, id) in await due(&schedule) {
            group.addTask { await settleOne(path, id) }
          }
          try? await Task.sleep(nanoseconds: Self.intervalMs * 1_000_000)
        }
      }
    }
  }

  /// When to try each open migration again: a peer that is down for hours is not asked every moment.
  struct Schedule {
    static let delayMaxMs: UInt64 = 60_000
    private var entries: [String: (delayMs: UInt64, nextMs: UInt64)] = [:]

    /// Whether `id` is due; counts the attempt.
    mutating func isDue(_ id: String, nowMs: UInt64) -> Bool {
      let delayMs = entries[id].map { min($0.delayMs * 2, Self.delayMaxMs) } ?? intervalMs
      if let entry = entries[id], nowMs < entry.nextMs { return false }
      entries[id] = (delayMs, nowMs + delayMs)
      return true
    }
  }

  /// Open journals whose turn it is; whoever gets them calls `settleOne` for each.
  private func due(_ schedule: inout Schedule) async -> [(path: String, id: String)] {
    var due: [(path: String, id: String)] = []
    for path in Journal.unfinished(in: agent.configuration.journalDirectory) {
      guard let name = path.split(separator: "/").last else { continue }
      let id = String(name.dropLast(Journal.suffix.count))
      guard !underWay.read({ $0.contains(id) }), await !agent.isActive(id),
        schedule.isDue(id, nowMs: MonotonicClock.nowMs)
      else { continue }
      underWay.update { _ = $0.insert(id) }
      due.append((path, id))
    }
    return due
  }

  private func settleOne(_ path: String, _ id: String) async {
    do { try await settle(path, id) } catch {
      agent.logger.warning(
        "migration not settled yet", metadata: ["migration": "\(id)", "error": "\(error)"])
    }
    underWay.update { _ = $0.remove(id) }
  }

  private func settle(_ path: String, _ id: String) async throws {
    let records = try Journal.records(at: path)
    if case .done = records.last { return removeWhenOld(path) }
    switch records.first {
    case .sourceBegan:
      _ = try await agent.exclusively(id) {
        try await SourceRecovery(id: id, agent: agent).recover()
      }
    case .destinationBegan:
      _ = try await agent.exclusively(id) {
        try await DestinationRecovery(id: id, agent: agent).recover()
      }
    default: removeWhenOld(path)  // torn before its first record: nothing had begun
    }
  }

  private func removeWhenOld(_ path: String) {
    let attributes = try? FileManager.default.attributesOfItem(atPath: path)
    guard let changed = attributes?[.modificationDate] as? Date else { return }
    if MonotonicClock.wallSeconds - Int64(changed.timeIntervalSince1970) > Self.keepSeconds {
      try? FileManager.default.removeItem(atPath: path)
    }
  }
}

extension AgentConfiguration {
  /// Where the journals lie.
  var journalDirectory: String { stateDirectory + "/journal" }

  /// What a source may have on its way here: a part of the memory limit, and no more than a link
  /// with a large bandwidth-delay product (10 Gbit/s, 50 ms) can use.
  var windowBytes: UInt64 { min(memoryLimitBytes / 4, 64 << 20) }
}
