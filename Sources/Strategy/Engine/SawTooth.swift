import Base

/// The stop set between two epochs: it falls while what the last one found is sent, and jumps when the next
/// one is found. A guest that is to be stopped is stopped at the foot of a tooth. Pure.
struct SawTooth: Sendable, Equatable {
  private var least: (pages: UInt64, epoch: UInt64)?

  static func == (a: Self, b: Self) -> Bool {
    a.least?.pages == b.least?.pages && a.least?.epoch == b.least?.epoch
  }

  /// Whether what is not collected yet can be foretold: for no longer than the last epoch was.
  static func isForeseeable(_ sample: EngineSample) -> Bool {
    guard let epoch = sample.lastEpoch, !sample.isCollecting else { return false }
    return sample.nowMs.minusFloored(epoch.endedMs) <= epoch.lengthMs
  }

  /// Whether the stop set has stopped falling since the last call, or another epoch has ended: now, then.
  mutating func isAtFoot(_ pages: UInt64, _ sample: EngineSample) -> Bool {
    let epoch = sample.lastEpoch?.number ?? 0
    let before = least
    least = (pages, epoch)
    guard let before else { return false }
    return before.epoch != epoch || pages >= before.pages || !Self.isForeseeable(sample)
  }
}
