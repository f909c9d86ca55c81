public import Strategy

/// One migration to be simulated.
public struct SimulationSetup: Sendable, Equatable {
  public var guest: GuestModel
  public var link: LinkModel
  public var strategy: StrategyName
  public var constraints: MigrationConstraints
  /// The destination can take the guest before its memory.
  public var canPull = false
  /// The source can confine and slow down vCPUs; on so many cores, or as many as vCPUs.
  public var canLimitCPU = true
  public var hostCores: UInt64?
  /// The fixed cost of a pause that the strategy expects, in milliseconds, and the relative deviation of
  /// the true one.
  public var pauseOverheadMs: UInt64 = 50
  public var overheadSpread = 0.2
  /// From the request to the first page, in milliseconds, and its relative deviation.
  public var startMs = 0.0
  public var startSpread = 0.3
  /// How fast a pass over the dirty log is read, in bytes per second of dirty pages, and what it costs at
  /// least, in milliseconds.
  public var drainRate = 1e9
  public var collectLeastMs = 5.0
  /// Pages that can't be read from shared memory wait in a pen of so many bytes, and the log is read no
  /// faster than they are sent beyond that; nil: memory is shared.
  public var penBytes: Double?
  /// Pages of zeros that the destination takes in a second; nil: they cost it nothing.
  public var zeroPagesPerSecond: Double?
  /// What a short sample beforehand says of the guest; nil: there is none.
  public var dirtyBound: DirtyBound?
  /// A pen as an agent has it: 256 MiB.
  public static let usualPenBytes = 268_435_456.0
  /// Relative deviation of the guest's writes, and of the link's rate, from one run to the next.
  public var guestSpread = 0.05
  public var linkSpread = 0.02
  /// How the guest's writes differ from time to time; nil: they don't.
  public var writePhases: WritePhases?

  public init(
    _ strategy: StrategyName, _ guest: GuestModel, _ link: LinkModel,
    _ constraints: MigrationConstraints = MigrationConstraints()
  ) {
    (self.strategy, self.guest, self.link, self.constraints) = (strategy, guest, link, constraints)
  }

  /// What the strategy is told before it begins; the true costs may be others.
  public var facts: EngineFacts {
    var facts = EngineFacts(
      ramPages: UInt64(guest.ramPages.rounded()), vcpuCount: guest.vcpuCount,
      hostCores: hostCores ?? guest.vcpuCount, canLimitCPU: canLimitCPU, canPull: canPull,
      pauseOverheadMs: pauseOverheadMs)
    facts.dirtyBound = dirtyBound
    return facts
  }

  /// Bytes that a page of this guest costs on the wire, on average, with those that processors are too slow for; at least 1.
  public var wireBytesPerPage: UInt64 {
    max(UInt64(guest.linkBytes(at: link.goodput) / max(guest.ramPages, 1)), 1)
  }

  /// Milliseconds of one pass over RAM on the free link.
  public var passMs: Double { guest.linkBytes(at: link.goodput) / link.goodput * 1000 }

  /// Milliseconds between two looks: 50, as the agent has it, and longer only where a pass takes hours.
  var tickMs: Double { max(50, (passMs / 6000).rounded(.up)) }
}
