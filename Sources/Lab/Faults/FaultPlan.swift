public import Agent
public import Base
public import Strategy

/// One thing to break, in which phase of a migration, and for how long.
public struct FaultPlan: Sendable, Hashable {
  /// What is broken, and how.
  public enum Victim: String, Sendable, CaseIterable {
    // Killed (SIGKILL); an agent is started again.
    case sourceAgent = "source-agent"
    case destinationAgent = "destination-agent"
    case sourceQEMU = "source-qemu"
    case destinationQEMU = "destination-qemu"
    /// Stopped (SIGSTOP): connections stay open, and nothing is said.
    case sourceAgentFrozen = "source-agent-frozen"
    case destinationAgentFrozen = "destination-agent-frozen"
    /// Told to end (SIGTERM, with the fault's length as `drainTimeout`); then another copy of the
    /// program takes over.
    case sourceAgentUpgraded = "source-agent-upgraded"
    case destinationAgentUpgraded = "destination-agent-upgraded"
    /// The link between the hosts is down.
    case link
    /// The link carries a small part of what it did, in both directions.
    case slowPeer = "slow-peer"
    /// Every connection between the hosts is reset, once.
    case connections
    /// No space is left for an agent's journal and history: no new file, no new block.
    case sourceDisk = "source-disk"
    case destinationDisk = "destination-disk"
    /// No file of an agent's grows beyond its journal, and that takes a few bytes more, or none.
    case sourceJournal = "source-journal"
    case destinationJournal = "destination-journal"
    /// An agent's wall clock goes 30 days ahead, then 30 days behind, then right again.
    case sourceClock = "source-clock"
    case destinationClock = "destination-clock"

    var isAgent: Bool { self == .sourceAgent || self == .destinationAgent }
    var isQEMU: Bool { self == .sourceQEMU || self == .destinationQEMU }
    var isKilled: Bool { isAgent || isQEMU }
    var isUpgraded: Bool { self == .sourceAgentUpgraded || self == .destinationAgentUpgraded }
    var isFrozen: Bool { self == .sourceAgentFrozen || self == .destinationAgentFrozen }
    var isDisk: Bool { self == .sourceDisk || self == .destinationDisk }
    /// The lab's network must be one that can be broken.
    var needsNamespaces: Bool { [.link, .connections, .slowPeer].contains(self) }

    /// The host that something is wrong with; nil: both, or what is between them.
    var side: HostPair.Side? {
      if rawValue.hasPrefix("source-") { return .source }
      return rawValue.hasPrefix("destination-") ? .destination : nil
    }

    /// The four processes.
    public static let processes: [Victim] = allCases.filter(\.isKilled)
  }

  /// A migration of the lab's, once begun, has ended by then.
  static let drainIsAmpleMs: UInt64 = 60_000

  public let phase: MigrationPhase
  public let victim: Victim
  /// How long what is no kill lasts, in milliseconds; for an upgrade, how long the agent may drain.
  public let lastsMs: UInt64
  /// How the guest is moved; a phase of a pull needs one that pulls.
  public let strategy: StrategyName

  /// For the phase `pull` the guest is moved by `dsm`, whatever `strategy` says.
  public init(
    phase: MigrationPhase, victim: Victim, lastsMs: UInt64 = 1500, strategy: StrategyName = .precopy
  ) {
    (self.phase, self.victim, self.lastsMs) = (phase, victim, lastsMs)
    self.strategy = phase == .pull ? .dsm : strategy
  }

  static let phases: [MigrationPhase] = MigrationPhase.allCases.filter {
    ![.keep, .done].contains($0)
  }

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
    let strategy = [StrategyName.precopy, .hotpages, .dsm].randomElement(using: &random)
    return FaultPlan(
      phase: phase, victim: victim, lastsMs: lastsMs, strategy: strategy ?? .precopy)
  }

  /// Whether the guest must arrive all the same: nothing that died is needed, and the network is
  /// back before patience ends, while the guest still runs. A slow network is no broken one, and once
  /// the agents are connected no clock matters but the one that nobody can set.
  func mustComplete(patienceMs: UInt64) -> Bool {
    // The guest runs at the destination, and whoever is left gives it its pages.
    if phase == .pull { return !victim.isQEMU }
    // Copies of disks don't outlive a connection, whoever of the two agents is silent.
    if phase == .disks, victim.isFrozen || [.connections, .link].contains(victim) {
      return false
    }
    return switch victim {
    case .connections: phase <= .iterate && phase > .prepare
    case .link, .sourceAgentFrozen, .destinationAgentFrozen:
      phase <= .iterate && phase > .prepare && lastsMs + 1000 < patienceMs
    case .slowPeer, .sourceClock, .destinationClock: phase > .prepare
    // The journal has its space by then.
    case .sourceDisk, .destinationDisk: phase > .prepare
    case .sourceAgentUpgraded, .destinationAgentUpgraded:
      phase > .prepare && lastsMs >= Self.drainIsAmpleMs
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

  /// The guest, and all that was looked at beside it, is as it should be.
  public var isGood: Bool { damage.isEmpty }
}
