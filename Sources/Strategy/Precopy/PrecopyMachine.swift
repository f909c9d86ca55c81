import Base

/// `precopy`: QEMU's own iterations and stop rule, with what QEMU cannot know put right.
///
/// QEMU stops the guest once `remaining <= bandwidth × downtime limit`. Seen from its unix socket the
/// bandwidth is the relay's buffer's, and the pause also holds what is on its way and the two-phase
/// commit. So the switchover is held until the bulk pass is over, the measured wire rate is pinned,
/// and the limit that QEMU gets is the user's less `overheadMs` and less the time of what is on its way. Pure.
///
/// Invariant: the switchover is released at most once.
public struct PrecopyMachine: Sendable, Equatable {
  /// What a pause costs beside sending the remaining pages: device state, commit. In milliseconds.
  public static let overheadMs: UInt64 = 50
  /// Change of the limit that is worth telling QEMU, in milliseconds.
  static let limitChangeMs: UInt64 = 10
  /// Change of the wire rate that is worth telling QEMU, as a fraction: 1/8.
  static let rateChangeDivisor: UInt64 = 8

  /// Longest guest pause the user accepts, in milliseconds; at least 1.
  public let downtimeLimitMs: UInt64
  /// QEMU may switch over by its own rule; never taken back.
  public private(set) var isReleased = false
  private var pinned: ByteRate?
  /// The limit that QEMU has, in milliseconds.
  private var toldMs: UInt64?

  /// 0 counts as 1 ms.
  public init(downtimeLimitMs: UInt64) { self.downtimeLimitMs = max(downtimeLimitMs, 1) }

  /// The limit QEMU gets: the user's less the overhead, but never less than a quarter, never 0
  /// (QEMU with a limit of 0 skips its exact look at the dirty bitmap and stops at once).
  public var effectiveLimitMs: UInt64 { limitMs(onItsWayMs: 0) }

  private func limitMs(onItsWayMs: UInt64) -> UInt64 {
    let taken = Self.overheadMs.addingSaturating(onItsWayMs)
    let reduced = downtimeLimitMs > taken ? downtimeLimitMs - taken : 0
    return max(reduced, downtimeLimitMs / 4, 1)
  }

  /// Takes a sample, says what the driver must do, in order.
  public mutating func handle(_ sample: MigrationSample) -> [StrategyEffect] {
    var effects: [StrategyEffect] = []
    if let rate = sample.wireRate, differs(rate, from: pinned) {
      pinned = rate
      effects.append(.pinBandwidth(rate))
    }
    guard sample.pass >= 2 else { return effects }
    let limitMs = limitMs(onItsWayMs: sample.wireRate?.milliseconds(for: sample.inFlight) ?? 0)
    if toldMs.map({ max($0, limitMs) - min($0, limitMs) >= Self.limitChangeMs }) ?? true {
      toldMs = limitMs
      effects.append(.limitDowntime(ms: limitMs))
    }
    if !isReleased {
      isReleased = true
      effects.append(.releaseSwitchover)
    }
    return effects
  }

  /// The pause if the guest were stopped now, in milliseconds; nil before a rate is known.
  public func expectedDowntimeMs(_ sample: MigrationSample) -> UInt64? {
    guard let rate = sample.wireRate else { return nil }
    let (owed, overflow) = sample.remaining.bytes.addingReportingOverflow(sample.inFlight.bytes)
    guard !overflow else { return .max }
    return rate.milliseconds(for: ByteCount(owed)).addingSaturating(Self.overheadMs)
  }

  private func differs(_ rate: ByteRate, from old: ByteRate?) -> Bool {
    guard let old else { return true }
    let (low, high) = (min(rate, old).bytesPerSecond, max(rate, old).bytesPerSecond)
    return high - low > low / Self.rateChangeDivisor
  }
}

extension UInt64 {
  /// The sum, or the largest value where it does not fit.
  public func addingSaturating(_ other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
