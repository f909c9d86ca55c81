public import Strategy

/// What an operator asks for with `godwit migrate`; travels over the control socket as JSON.
public struct MigrationRequest: Codable, Sendable, Equatable {
  /// How page bytes are obtained at the source and placed at the destination.
  public enum PageSourceChoice: String, Codable, Sendable, CaseIterable {
    /// Read from the guest's memory, shared or QEMU's own, where the agent may, and written in place where it is
    /// shared; else as `inline`.
    case auto
    /// Bytes come out of QEMU's stream and go into QEMU's stream.
    case inline
    /// Only with memory that is shared at the source.
    case shared
  }

  /// How pages are made smaller before they cross the network.
  public enum CompactionChoice: String, Codable, Sendable, CaseIterable {
    /// As much as link and processors make worth while, nothing where that is nothing.
    case auto
    /// Zero pages alone are left out.
    case off
    /// Always, and always the same.
    case lz4, zstd
  }

  /// A VM name that the agent knows, or `qmp:PATH`.
  public var vm: String
  /// `host[:port]` of the destination's agent.
  public var destination: String
  /// A `StrategyName`.
  public var strategy = "precopy"
  /// Longest time until the guest runs at the destination, in milliseconds, at least 1; nil: no bound.
  public var withinMs: UInt64?
  /// What happens when that time is about to run out.
  public var atDeadline = DeadlineAction.stop
  /// Pause up to which a strategy may raise its limit to end at all, in milliseconds; nil: ten times
  /// `downtimeLimitMs`.
  public var downtimeCeilingMs: UInt64?
  /// Most of its processor time that the guest may be denied, in percent, `0...99`.
  public var maxThrottlePercent: UInt64 = 0
  /// How it is denied.
  public var throttleForm = ThrottleForm.stepwise
  /// Cap on wire bytes per second; nil: no cap.
  public var bandwidthBytesPerSecond: UInt64?
  /// Longest acceptable guest pause, in milliseconds.
  public var downtimeLimitMs: UInt64 = 300
  public var pageSource = PageSourceChoice.auto
  public var compaction = CompactionChoice.auto
  /// Data connections beside the control lane, `1...64`.
  public var laneCount = 4
  /// How long to look for the destination when the connection broke, in milliseconds, at most a day;
  /// then the migration is rolled back.
  public var networkPatienceMs: UInt64 = 60_000
  /// The same for a guest that is stopped already, where it counts when it is the shorter one: then the
  /// guest goes on here. In milliseconds.
  public var stoppedPatienceMs: UInt64 = 3000
  /// Compare every RAM page between both sides while the guest is stopped, before the commit.
  public var audit = false
  /// What was forecast beforehand, to be kept with the outcome; nil: nothing.
  public var forecast: MigrationRecord.Forecast?
  /// Leave the source QEMU process in `postmigrate` instead of quitting it.
  public var keepSource = false
  /// Leave a copy of the guest's memory in the vault of the source's host, once it is gone.
  public var keepMemory = false
  /// Disks that move with the guest; nil: none, all are on storage that both hosts share.
  public var disks: DiskWishes?
  /// Name of the gang that the guest moves with: pages that another guest of it brought to the same destination
  /// cross the network as references. Nil: it goes alone.
  public var gang: String?

  public init(vm: String, destination: String) {
    (self.vm, self.destination) = (vm, destination)
  }
}

extension MigrationRequest {
  /// Whether the guest may move before its memory: what the strategy is there for, or what the user wants
  /// at the deadline.
  public var mayPull: Bool {
    strategy == StrategyName.dsm.rawValue || strategy == StrategyName.auto.rawValue
      || (withinMs != nil && atDeadline == .postcopy)
  }

  /// What a strategy is held to.
  public var constraints: MigrationConstraints {
    MigrationConstraints(
      withinMs: withinMs, downtimeLimitMs: downtimeLimitMs, downtimeCeilingMs: downtimeCeilingMs,
      atDeadline: atDeadline, maxThrottlePercent: maxThrottlePercent, throttleForm: throttleForm)
  }
}
