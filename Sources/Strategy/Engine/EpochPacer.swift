import Base

/// Decides when the dirty log may be read again. Pure.
///
/// Invariant: never while it is being read, never twice for one epoch, and no epoch is shorter than
/// `leastMs` by the strategy's own wish.
public struct EpochPacer: Sendable, Equatable {
  /// Shorter epochs cost the guest more faults on its dirty log than they tell.
  public static let leastMs: UInt64 = 100
  /// A driver that took the wish must report within this time, in milliseconds; then it is asked again.
  static let patienceMs: UInt64 = 5_000

  private var asked: (epoch: UInt64, atMs: UInt64)?

  public init() {}

  public static func == (a: Self, b: Self) -> Bool {
    a.asked?.epoch == b.asked?.epoch && a.asked?.atMs == b.asked?.atMs
  }

  /// Whether an epoch that is at least `intervalMs` long may end now; notes it as asked for if so.
  public mutating func take(_ sample: EngineSample, after intervalMs: UInt64) -> Bool {
    let epoch = sample.lastEpoch?.number ?? 0
    if sample.isCollecting { return false }
    if let asked, asked.epoch == epoch,
      sample.nowMs < asked.atMs.addingSaturating(Self.patienceMs)
    {
      return false
    }
    let beganMs = sample.lastEpoch?.endedMs ?? sample.beganMs
    guard sample.nowMs >= beganMs.addingSaturating(max(intervalMs, Self.leastMs)) else {
      return false
    }
    asked = (epoch, sample.nowMs)
    return true
  }
}

/// Says once of each epoch that it has ended. Pure.
public struct EpochWatch: Sendable, Equatable {
  /// Epochs that `ended` has told of; those that it never saw end don't count.
  public private(set) var count: UInt64 = 0
  private var seen: UInt64 = 0

  public init() {}

  /// The epoch that ended since the last call, or nil.
  public mutating func ended(_ sample: EngineSample) -> EpochReport? {
    guard let epoch = sample.lastEpoch, epoch.number > seen else { return nil }
    seen = epoch.number
    count += 1
    return epoch
  }
}

/// How long the epochs of a scan are. Pure.
enum ScanEpochs {
  /// Epochs that a scan is to have, so that heat means something when it ends.
  static let countMin: UInt64 = 16

  /// A sixteenth of the scan as far as its length is known, at most `mostMs`; within 8 epochs of the
  /// scan's end at most `thenMs`, the length of those that follow, so that heat means the same then.
  static func lengthMs(
    _ sample: EngineSample, _ facts: EngineFacts, mostMs: UInt64 = 1000, thenMs: UInt64? = nil
  ) -> UInt64 {
    let least = EpochPacer.leastMs
    guard let scanMs = sample.milliseconds(forPages: facts.ramPages) else {
      return min(max(250, least), mostMs)
    }
    let lengthMs = min(max(scanMs / countMin, least), max(mostMs, least))
    guard let thenMs, let leftMs = sample.milliseconds(forPages: sample.freshPages),
      leftMs <= thenMs.scaled(by: 8, over: 1)
    else { return lengthMs }
    return min(lengthMs, max(thenMs, least))
  }
}

/// How long the epochs of rounds are. Pure.
enum RoundEpochs {
  /// As long as the downtime limit, within 200 and 1000 ms: the shorter, the sooner a page that is dirty
  /// again is sent again, and the more often the guest faults on its dirty log.
  static func lengthMs(_ downtimeLimitMs: UInt64) -> UInt64 { min(max(downtimeLimitMs, 200), 1000) }
}
