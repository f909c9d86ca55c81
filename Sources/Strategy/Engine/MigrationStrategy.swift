/// A limit on the guest's processor time, set from outside QEMU.
public enum CPULimit: Sendable, Hashable {
  case none
  /// All vCPU threads together on so many host cores, at least 1.
  case cores(UInt64)
  /// Each vCPU gets at most so many thousandths of a core, `1...1000`.
  case quota(permille: UInt64)
}

/// What a strategy asks of its driver: the agent, or the simulator.
public enum EngineEffect: Sendable, Hashable {
  /// Read the dirty log once: QEMU's next pass over its dirty bitmap. Ends in an `EpochReport`.
  case collect
  /// Dirty owed pages of this heat or hotter wait until the guest stops; 9 holds nothing back, 0
  /// holds back every page that was dirtied.
  case holdBack(heat: UInt8)
  /// How the lanes are shared: so many thousandths for the scan over fresh pages, the rest for
  /// dirtied ones. Where one has nothing to send the other gets all.
  case share(scanPermille: UInt64)
  case limitCPU(CPULimit)
  /// Stop the guest now, send everything owed, and commit.
  case stop(StopReason)
  /// Stop the guest now, commit, and let the destination pull what is owed while the guest runs there.
  case pull(StopReason)
  /// Give the migration up; the guest goes on at the source.
  case abandon(String)
}

/// Why the guest is stopped; for logs, records and simulations.
public enum StopReason: String, Sendable, Hashable, Codable {
  /// The pause is forecast to keep the downtime limit.
  case fits
  /// Another epoch would not make the pause shorter.
  case noGain
  /// The scan reached the end of RAM.
  case scanDone
  /// The limit was raised to what the forecast needs.
  case raised
  /// The user's time is about to run out.
  case deadline
}

/// A strategy: a pure machine. No clock, no I/O, no randomness.
///
/// The driver calls `handle` for every sample, at least every 50 ms and at the end of every epoch, and
/// carries the effects out in order. After `stop`, `pull` or `abandon` it calls no more.
public protocol MigrationStrategy: Sendable {
  var name: StrategyName { get }
  /// The strategy that decides at present: another than `name` where one chose or fell back.
  var acting: StrategyName { get }
  mutating func handle(_ sample: EngineSample) -> [EngineEffect]
}

extension MigrationStrategy {
  public var acting: StrategyName { name }
}
