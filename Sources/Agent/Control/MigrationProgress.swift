public import Base
import Strategy

/// Phases of a migration, in order (`ARCHITECTURE.md`, "A migration, step by step").
public enum MigrationPhase: String, Codable, Sendable, CaseIterable, Comparable {
  case prepare, disks, bulk, iterate, switchover, commit, pull, keep, done

  private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
  public static func < (a: Self, b: Self) -> Bool { a.rank < b.rank }
}

/// One look at a running migration; what `status` prints and `watch` draws.
public struct MigrationProgress: Codable, Sendable, Equatable {
  /// Unique per migration, chosen by the source agent.
  public var id: String
  public var vm: String
  /// The other agent, `host:port`.
  public var peer: String
  /// `source` or `destination`: the side this agent is.
  public var side: String
  public var phase: MigrationPhase
  /// A `StrategyName`: the one that decides at present.
  public var strategy: String
  /// Where pages are read and where they are written: `shared`, `process` or `inline`, `A to B`
  /// where both differ; nil before that is known.
  @OrNull public var pageSource: String?
  public var elapsedMs: UInt64 = 0
  /// Guest RAM, in bytes.
  public var ramBytes: UInt64 = 0
  /// Of the disks that move with the guest, in bytes, and how much of them is owed now; nil: none do.
  @OrNull public var diskBytes: UInt64?
  @OrNull public var diskRemainingBytes: UInt64?
  /// Share of the work that is done, in thousandths; never runs backwards.
  public var progressPermille: UInt64 = 0
  /// Expected milliseconds to the end; nil while nothing honest can be said.
  @OrNull public var etaMs: UInt64?
  /// The band around it: earliest and latest end that the looks of the last seconds foretold; nil:
  /// none can be named.
  @OrNull public var etaLowMs: UInt64?
  @OrNull public var etaHighMs: UInt64?
  /// From the request until the guest runs at the destination at the latest, as the strategy announced it at the start;
  /// nil: it announces none.
  @OrNull public var boundMs: UInt64?
  /// Bytes put on the network so far.
  public var wireBytes: UInt64 = 0
  /// Over the last second.
  public var wireBytesPerSecond: UInt64 = 0
  /// What the destination lacks still, in bytes of guest memory: what is owed, in a pull what is missing there, with `--keep`
  /// what has yet to be stored.
  public var remainingBytes: UInt64 = 0
  /// What the guest dirties; nil: not measured yet.
  @OrNull public var dirtyBytesPerSecond: UInt64?
  /// Distinct memory that the guest dirties in an epoch, in bytes; nil until one has ended.
  @OrNull public var workingSetBytes: UInt64?
  /// Data connections.
  @OrNull public var laneCount: Int?
  /// Epochs so far; where QEMU's own rule decides, its passes over dirty memory.
  public var iteration: UInt64 = 0
  /// Downtime if the guest were stopped now.
  @OrNull public var expectedDowntimeMs: UInt64?
  /// Connections between the agents that broke so far and were opened again.
  public var retries: UInt64 = 0
  /// False while the other agent cannot be reached and is looked for.
  public var isConnected = true
  /// Milliseconds for which nothing has come through, because the connection is broken, or silent in a pull; nil: it
  /// goes on. There is no ETA meanwhile.
  @OrNull public var waitedMs: UInt64?

  public init(
    id: String, vm: String, peer: String, side: String, phase: MigrationPhase, strategy: String
  ) {
    (self.id, self.vm, self.peer, self.side) = (id, vm, peer, side)
    (self.phase, self.strategy) = (phase, strategy)
  }
}

extension MigrationProgress {
  /// Notes that nothing has come through for so long: then there is no end to name.
  mutating func waits(forMs ms: UInt64?) {
    waitedMs = phase < .keep ? ms : nil
    guard waitedMs != nil else { return }
    (etaMs, etaLowMs, etaHighMs) = (nil, nil, nil)
  }
}

/// Since when the other agent cannot be reached.
struct ConnectionWait: Sendable, Equatable {
  private var sinceMs: UInt64?

  mutating func note(isConnected: Bool, nowMs: UInt64) {
    sinceMs = isConnected ? nil : sinceMs ?? nowMs
  }

  /// Nil: it can be.
  func waitedMs(nowMs: UInt64) -> UInt64? { sinceMs.map { nowMs.minusFloored($0) } }
}
