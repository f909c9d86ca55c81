public import Strategy

/// How a simulated migration ended.
public struct SimulationOutcome: Sendable, Equatable {
  /// What the migration came to.
  public enum End: Sendable, Equatable {
    /// The guest runs at the destination, and all of its memory is there.
    case completed(StopReason)
    /// The strategy gave up; the guest went on at the source.
    case abandoned(String)
    /// `withinMs` can't be kept: refused before the start.
    case refused(String)
    /// The run was still going after the time that the simulation allows: a defect.
    case endless
  }

  public var end: End
  /// Until all memory was at the destination, or the end without it, in milliseconds.
  public var totalMs = 0.0
  /// Until the guest ran at the destination; nil where it never did.
  public var movedMs: Double?
  /// How long the guest stood still, in milliseconds; nil where it wasn't stopped.
  public var downtimeMs: Double?
  /// The pause that was forecast when the guest was stopped.
  public var forecastDowntimeMs: Double?
  /// What crossed the link, repeats included.
  public var wireBytes = 0.0
  /// Working time that the guest lost to throttling, the pause and faults, in milliseconds.
  public var lostMs = 0.0
  /// Pages that waited for the network after an early move.
  public var networkFaults = 0.0
  public var epochs = 0
  /// The strategy that decided last.
  public var acting: StrategyName
  /// Why `auto` took what it took; nil for others, and where the pause fitted at once.
  public var reason: String?
  /// A rule that was broken, or nil.
  public var violation: String?

  /// The guest and all of its memory are at the destination.
  public var isCompleted: Bool { if case .completed = end { true } else { false } }

  /// Share of its working time that the guest lost until the end, `0...1`.
  public var slowdown: Double { totalMs > 0 ? min(lostMs / totalMs, 1) : 0 }
}
