public import DiskStrategy

/// A move of a disk to be simulated.
public struct DiskMoveSetup: Sendable, Equatable {
  /// Nil: nothing moves, for comparison.
  public var method: MoveMethod?
  public var disk: DiskModel
  public var load: DiskLoadModel
  public var byteCount: UInt64
  public var linkBytesPerSecond = 117e6
  /// One way.
  public var linkLatencyUs: UInt64 = 200
  /// Host memory that keeps what was read and written last, in bytes; 0: every request goes to the disk.
  public var cacheBytes: UInt64 = 64 << 20
  /// What the copier may send, in bytes per second; nil: no bound.
  public var bandwidth: UInt64?
  /// Longest that the guest's writes shall wait at the end.
  public var pauseLimitMs: UInt64 = 500
  /// Times at which the connection breaks, a second each.
  public var cutsMs: [UInt64] = []
  /// A move that has not ended by then isn't waited for any longer. Without a move: how long the guest is watched.
  public var lengthMs: UInt64 = 3_600_000

  public init(
    _ method: MoveMethod?, disk: DiskModel, load: DiskLoadModel, byteCount: UInt64
  ) {
    (self.method, self.disk, self.load, self.byteCount) = (method, disk, load, byteCount)
  }
}

/// What came of it.
public struct DiskMoveOutcome: Sendable, Equatable {
  /// Nil: it did not end in time.
  public var totalMs: UInt64?
  /// How long the guest's writes waited at the end.
  public var pauseMs: UInt64 = 0
  /// Bytes that the source's disk was read, for guest and move; of these for the move alone; and that crossed the network.
  public var readBytes: UInt64 = 0
  public var moveReadBytes: UInt64 = 0
  public var wireBytes: UInt64 = 0
  /// Of the guest, while the disk moved.
  public var requestsPerSecond: Double = 0
  public var p99LatencyUs: UInt64 = 0
  /// Why the run broke a rule; nil: it didn't.
  public var violation: String?
}

extension DiskMoveSetup {
  /// Runs it in virtual time; nil: no disk can have that size.
  public func run(seed: UInt64) -> DiskMoveOutcome? { DiskMoveRun.run(self, seed: seed) }
}
