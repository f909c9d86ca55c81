import Base

/// What happens when `withinMs` is about to run out.
public enum DeadlineAction: String, Sendable, Hashable, CaseIterable, Codable {
  /// The guest is stopped and moved, however long the pause.
  case stop
  /// The guest moves at once, and the rest of its pages follow.
  case postcopy
  /// The migration is given up; the guest goes on at the source.
  case abort
}

/// How a guest is slowed down where `maxThrottlePercent` allows it.
public enum ThrottleForm: String, Sendable, Hashable, CaseIterable, Codable {
  /// All vCPUs are confined to as few cores as allowed once half of the scan is done.
  case atOnce = "at-once"
  /// From half of the scan on they lose one core after the other.
  case stepwise
  /// The vCPUs' running time follows what was sent and what they dirtied.
  case freeze
}

/// What the user asks of a migration.
public struct MigrationConstraints: Sendable, Hashable {
  /// Longest time from the start to the guest running at the destination, in milliseconds, at least 1;
  /// nil: no bound of the user's.
  public var withinMs: UInt64?
  /// Pause that the guest should not exceed, in milliseconds, at least 1.
  public var downtimeLimitMs: UInt64
  /// Pause up to which a strategy may raise its limit to end at all, in milliseconds.
  public var downtimeCeilingMs: UInt64
  public var atDeadline: DeadlineAction
  /// Most of its processor time that a guest may be denied, in percent, `0...99`; 0: none.
  public var maxThrottlePercent: UInt64
  public var throttleForm: ThrottleForm

  /// The ceiling is ten times the limit unless it is given.
  public init(
    withinMs: UInt64? = nil, downtimeLimitMs: UInt64 = 300, downtimeCeilingMs: UInt64? = nil,
    atDeadline: DeadlineAction = .stop, maxThrottlePercent: UInt64 = 0,
    throttleForm: ThrottleForm = .stepwise
  ) {
    self.withinMs = withinMs.map { max($0, 1) }
    self.downtimeLimitMs = max(downtimeLimitMs, 1)
    let ceiling = downtimeCeilingMs ?? max(downtimeLimitMs, 1).scaled(by: 10, over: 1)
    self.downtimeCeilingMs = max(ceiling, self.downtimeLimitMs)
    self.atDeadline = atDeadline
    self.maxThrottlePercent = min(maxThrottlePercent, 99)
    self.throttleForm = throttleForm
  }
}

/// What doesn't change during a migration: the guest's size and what can be done to it.
public struct EngineFacts: Sendable, Hashable {
  /// Pages of all RAM blocks together.
  public var ramPages: UInt64
  public var vcpuCount: UInt64
  /// Cores of the source host that the guest may use.
  public var hostCores: UInt64
  /// The vCPU threads can be confined and their time limited.
  public var canLimitCPU: Bool
  /// The destination can take the guest before its memory is complete, and the source's memory stays
  /// readable meanwhile.
  public var canPull: Bool
  /// What a pause costs beside the pages, in milliseconds: device state, commit.
  public var pauseOverheadMs: UInt64
  /// The most distinct pages that the guest is expected to dirty in some time, from a sample beforehand;
  /// nil: not known.
  public var dirtyBound: DirtyBound?

  public init(
    ramPages: UInt64, vcpuCount: UInt64 = 1, hostCores: UInt64 = 1, canLimitCPU: Bool = false,
    canPull: Bool = false, pauseOverheadMs: UInt64 = 50
  ) {
    (self.ramPages, self.vcpuCount, self.hostCores) = (ramPages, vcpuCount, hostCores)
    (self.canLimitCPU, self.canPull) = (canLimitCPU, canPull)
    self.pauseOverheadMs = pauseOverheadMs
  }
}
