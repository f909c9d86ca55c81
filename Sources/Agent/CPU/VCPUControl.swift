import HostIO
import Logging
import QMP
import Strategy
import Wire

/// The processor time of a guest at the source, limited from outside QEMU and always given back.
///
/// How the threads were is in the journal before anything changes, so an agent that is killed gives
/// them back when it is started again (`SourceRecovery`). Only threads that QEMU names as vCPUs are
/// touched, never its main loop or its migration thread. `apply` and `restore` are called one after
/// the other, by the migration.
final class VCPUControl: Sendable {
  /// What was found out by trying.
  struct Facts: Sendable, Hashable {
    var vcpuCount: UInt64 = 1
    /// Processors of this host that the vCPU threads may use.
    var hostCores: UInt64 = 1
    /// `CPULimit.cores` can be obeyed.
    var canConfine = false
    /// `CPULimit.quota` can be obeyed as it is.
    var canLimitTime = false
    /// Why one of them cannot.
    var obstacle: String?

    /// `EngineFacts.canLimitCPU`.
    var canLimitCPU: Bool { canConfine && canLimitTime }
  }

  private struct State {
    var inForce = CPULimit.none
    var isEnded = false
  }

  let facts: Facts
  /// nil: there is nothing that could be limited.
  private let snapshot: VCPUSnapshot?
  private let order: [Int]
  private let journal: Journal
  private let logger: Logger
  private let state = Guarded(State())

  /// Looks at the vCPU threads, writes how they are into the journal, and tries what can be done.
  ///
  /// - Parameters:
  ///   - process: QEMU's; nil when it is in another PID namespace, and nothing can be done.
  ///   - journal: the migration's, with `sourceBegan` in it.
  /// - Throws: `VCPUError.notItsThread` when QEMU lies about its threads; errors of the journal.
  static func prepare(
    _ client: QMPClient, _ process: ProcessIdentity?, id: MigrationID, journal: Journal,
    logger: Logger
  ) async throws -> VCPUControl {
    let vcpus = try await client.queryCPUsFast()
    var facts = Facts()
    facts.vcpuCount = UInt64(max(vcpus.count, 1))
    guard let process else {
      facts.obstacle = "QEMU's process cannot be seen from here"
      return VCPUControl(facts, nil, [], journal, logger)
    }
    let label = String(id.description.prefix(12))
    let tids = vcpus.map(\.threadID)
    let (snapshot, order) = try await Blocking.run {
      let snapshot = try VCPUSnapshot(tids: tids, of: process, label: label)
      return (snapshot, snapshot.processorsByPreference)
    }
    try await journal.append(.vcpusLimited(snapshot))
    let (confining, limiting) = try await Blocking.run { snapshot.probe() }
    facts.hostCores = UInt64(max(order.count, 1))
    (facts.canConfine, facts.canLimitTime) = (confining == nil, limiting == nil)
    facts.obstacle = confining ?? limiting
    if let obstacle = facts.obstacle {
      logger.notice("vCPUs cannot be limited fully", metadata: ["reason": "\(obstacle)"])
    }
    return VCPUControl(facts, snapshot, order, journal, logger)
  }

  private init(
    _ facts: Facts, _ snapshot: VCPUSnapshot?, _ order: [Int], _ journal: Journal, _ logger: Logger
  ) {
    (self.facts, self.snapshot, self.order) = (facts, snapshot, order)
    (self.journal, self.logger) = (journal, logger)
  }

  /// Puts this limit in the place of the one before. Returns what is in force now: a quota that the
  /// host's control groups don't allow becomes as many cores as the guest would get.
  ///
  /// After an error nothing is limited.
  @discardableResult
  func apply(_ limit: CPULimit) async throws -> CPULimit {
    let wanted = obeyable(limit)
    if state.read({ $0.inForce == wanted && !$0.isEnded }) { return wanted }
    guard let snapshot else {
      throw VCPUError.unavailable(facts.obstacle ?? "no vCPU thread is known")
    }
    let (state, order) = (state, order)
    try await Blocking.run {
      try state.update { state in
        guard !state.isEnded else { throw VCPUError.ended }
        state.inForce = .none
        do {
          try Self.change(snapshot, order, to: wanted)
        } catch {
          try? snapshot.unlimit()
          throw error
        }
        state.inForce = wanted
      }
    }
    logger.info("vCPUs limited", metadata: ["limit": "\(wanted)"])
    return wanted
  }

  /// Gives everything back, once; later calls and limits do nothing.
  func restore() async {
    guard let snapshot else { return }
    let state = self.state
    let troubles = try? await Blocking.run {
      state.update { state -> [String]? in
        guard !state.isEnded else { return nil }
        (state.isEnded, state.inForce) = (true, .none)
        return snapshot.restore()
      }
    }
    guard let troubles = troubles ?? nil else { return }
    guard troubles.isEmpty else {
      return logger.error(
        "vCPUs not given back fully", metadata: ["reason": "\(troubles.joined(separator: "; "))"])
    }
    do { try await journal.append(.vcpusRestored) } catch {
      logger.warning("journal not written", metadata: ["error": "\(error)"])
    }
  }

  /// The limit within what the host has and allows.
  private func obeyable(_ limit: CPULimit) -> CPULimit {
    switch limit {
    case .none: return .none
    case .cores(let count): return .cores(min(max(count, 1), facts.hostCores))
    case .quota(let permille):
      let permille = min(max(permille, 1), 1000)
      guard !facts.canLimitTime, facts.canConfine else { return .quota(permille: permille) }
      let threads = UInt64(snapshot?.threads.count ?? 1)
      return .cores(min((threads * permille + 999) / 1000, facts.hostCores))
    }
  }

  private static func change(
    _ snapshot: VCPUSnapshot, _ order: [Int], to limit: CPULimit
  ) throws {
    // First the old limit's other half, so that no two are in force together for longer than a moment.
    try snapshot.unlimit()
    switch limit {
    case .none: break
    case .cores(let count): try snapshot.confine(to: CPUSet(order.prefix(Int(clamping: count))))
    case .quota(let permille): try snapshot.limitTime(permille: permille)
    }
  }
}
