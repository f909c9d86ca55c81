public import Agent
public import Base

/// One thing to break, in which phase of a migration, and for how long.
public struct FaultPlan: Sendable, Hashable {
  public enum Victim: String, Sendable, CaseIterable {
    // Killed (SIGKILL); an agent is started again.
    case sourceAgent = "source-agent"
    case destinationAgent = "destination-agent"
    case sourceQEMU = "source-qemu"
    case destinationQEMU = "destination-qemu"
    /// Stopped (SIGSTOP): connections stay open, and nothing is said.
    case sourceAgentFrozen = "source-agent-frozen"
    case destinationAgentFrozen = "destination-agent-frozen"
    /// The link between the hosts is down.
    case link
    /// Every connection between the hosts is reset, once.
    case connections
    /// No space is left for an agent's journal and history.
    case sourceDisk = "source-disk"
    case destinationDisk = "destination-disk"

    var isAgent: Bool { self == .sourceAgent || self == .destinationAgent }
    var isQEMU: Bool { self == .sourceQEMU || self == .destinationQEMU }
    var isKilled: Bool { isAgent || isQEMU }

    /// The four processes.
    public static let processes: [Victim] = allCases.filter(\.isKilled)
  }

  public let phase: MigrationPhase
  public let victim: Victim
  /// How long what is no kill lasts, in milliseconds.
  public let lastsMs: UInt64

  public init(phase: MigrationPhase, victim: Victim, lastsMs: UInt64 = 1500) {
    (self.phase, self.victim, self.lastsMs) = (phase, victim, lastsMs)
  }

  static let phases: [MigrationPhase] = MigrationPhase.allCases.filter { $0 != .done }

  /// Everything that can break, in every phase.
  public static let all: [FaultPlan] = phases.flatMap { phase in
    Victim.allCases.map { FaultPlan(phase: phase, victim: $0) }
  }

  /// Drawn from `random`; mostly short, sometimes longer than a migration has patience for.
  public static func random(
    using random: inout SplitMix64, longestMs: UInt64
  ) -> FaultPlan {
    let phase = phases.randomElement(using: &random) ?? .bulk
    let victim = Victim.allCases.randomElement(using: &random) ?? .link
    let isShort = random.next() % 3 > 0
    let lastsMs = UInt64.random(
      in: 50...(isShort ? min(3000, longestMs) : longestMs), using: &random)
    return FaultPlan(phase: phase, victim: victim, lastsMs: lastsMs)
  }

  /// Whether the guest must arrive all the same: nothing that died is needed, and the network is
  /// back before patience ends, while the guest still runs.
  func mustComplete(patienceMs: UInt64) -> Bool {
    switch victim {
    case .connections: phase <= .iterate && phase > .prepare
    case .link, .sourceAgentFrozen, .destinationAgentFrozen:
      phase <= .iterate && phase > .prepare && lastsMs + 1000 < patienceMs
    default: false
    }
  }
}

/// What became of a guest whose migration was broken.
public struct FaultResult: Sendable {
  public let plan: FaultPlan
  /// Milliseconds after the phase began.
  public let killedAfterMs: UInt64
  /// Where the guest's heart beats in the end: `source`, `destination`, `nowhere`, `both`.
  public var guestAt = "nowhere"
  /// What `godwit migrate` said; nil when its agent died.
  public var outcome: String?
  /// From the fault's end until everything was settled.
  public var settledMs: UInt64?
  /// Connections that broke and were opened again.
  public var retries: UInt64?
  /// Most memory that an agent used, in bytes, as far as it lived to the end.
  public var agentPeakBytes: UInt64?
  /// Why this is not as it must be; empty when it is.
  public var damage: [String] = []

  init(plan: FaultPlan, killedAfterMs: UInt64) {
    (self.plan, self.killedAfterMs) = (plan, killedAfterMs)
  }

  public var isGood: Bool { damage.isEmpty }
}
