public import Agent

/// One thing to break: which process is killed (SIGKILL), and in which phase of a migration.
public struct FaultPlan: Sendable, Hashable {
  public enum Victim: String, Sendable, CaseIterable {
    case sourceAgent = "source-agent"
    case destinationAgent = "destination-agent"
    case sourceQEMU = "source-qemu"
    case destinationQEMU = "destination-qemu"

    var isAgent: Bool { self == .sourceAgent || self == .destinationAgent }
  }

  public let phase: MigrationPhase
  public let victim: Victim

  public init(phase: MigrationPhase, victim: Victim) { (self.phase, self.victim) = (phase, victim) }

  /// Every process in every phase.
  public static let all: [FaultPlan] = MigrationPhase.allCases.filter { $0 != .done }.flatMap {
    phase in Victim.allCases.map { FaultPlan(phase: phase, victim: $0) }
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
  /// From the kill until everything was settled.
  public var settledMs: UInt64?
  /// Why this is not as it must be; empty when it is.
  public var damage: [String] = []

  init(plan: FaultPlan, killedAfterMs: UInt64) {
    (self.plan, self.killedAfterMs) = (plan, killedAfterMs)
  }

  public var isGood: Bool { damage.isEmpty }
}
