public import Base

/// One look at a running migration, the input of every strategy.
public struct MigrationSample: Sendable, Hashable {
  /// Milliseconds on a monotonic clock.
  public var nowMs: UInt64
  /// All guest RAM.
  public var ram: ByteCount
  /// What QEMU still has to write into its stream, as of its last look at the dirty bitmap.
  public var remaining: ByteCount
  /// How fast the guest dirties memory, as QEMU measured it in its last pass.
  public var dirtyRate: ByteRate?
  /// QEMU's passes over the dirty bitmap: 1 during the bulk pass.
  public var pass: UInt64
  /// What the destination applied lately, per second; nil before the first measurement.
  public var wireRate: ByteRate?
  /// Sent or queued, not applied yet.
  public var inFlight: ByteCount
  /// Of `remaining`, what is not zeros, as far as a sample can tell; nil: nobody looked.
  public var contents: ByteCount?
  /// How fast that which the destination lacks grows, in bytes a second; nil: as fast as the guest dirties
  /// memory. A page that is lacking anyway does not add to it when it is dirtied.
  public var growthPerSecond: UInt64?
  /// What was dirtied and not counted in `remaining` yet; nil: reckoned from the dirty rate.
  public var unseen: ByteCount?

  public init(
    nowMs: UInt64, ram: ByteCount, remaining: ByteCount, dirtyRate: ByteRate?, pass: UInt64,
    wireRate: ByteRate?, inFlight: ByteCount
  ) {
    (self.nowMs, self.ram, self.remaining, self.dirtyRate) = (nowMs, ram, remaining, dirtyRate)
    (self.pass, self.wireRate, self.inFlight) = (pass, wireRate, inFlight)
  }
}

/// What a strategy asks of its driver (the agent, or the simulator).
public enum StrategyEffect: Sendable, Hashable {
  /// QEMU may stop the guest when what is left fits this pause, in milliseconds.
  case limitDowntime(ms: UInt64)
  /// The rate that QEMU's stop rule is to reckon with.
  case pinBandwidth(ByteRate)
  /// QEMU may switch over by its own rule from now on.
  case releaseSwitchover
}
