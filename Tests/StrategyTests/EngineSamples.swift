import Base
import Strategy

/// Samples made by hand: a link of 100 pages per millisecond unless said otherwise.
struct Samples {
  static let pagesPerMs: UInt64 = 100
  var sample: EngineSample

  init(fresh: UInt64 = 0, rate: UInt64? = Samples.pagesPerMs * 4096 * 1000) {
    sample = EngineSample(nowMs: 0, beganMs: 0, freshPages: fresh)
    sample.wireRate = rate.flatMap(ByteRate.init(bytesPerSecond:))
  }

  /// A look `ms` later.
  mutating func later(_ ms: UInt64, _ change: (inout EngineSample) -> Void = { _ in })
    -> EngineSample
  {
    sample.nowMs += ms
    change(&sample)
    return sample
  }

  /// The end of an epoch `ms` later: so many pages dirtied, and owed by heat as given.
  mutating func epoch(
    _ ms: UInt64, dirtied: UInt64, owed: [UInt8: UInt64],
    _ change: (inout EngineSample) -> Void = { _ in }
  ) -> EngineSample {
    let beganMs = sample.lastEpoch?.endedMs ?? 0
    sample.nowMs += ms
    sample.lastEpoch = EpochReport(
      number: (sample.lastEpoch?.number ?? 0) + 1, beganMs: beganMs, endedMs: sample.nowMs,
      dirtiedPages: dirtied)
    sample.dirtyOwedByHeat = (0...8 as ClosedRange<UInt8>).map { owed[$0] ?? 0 }
    change(&sample)
    return sample
  }
}

extension EngineFacts {
  /// 1 GiB, 4 vCPUs on 4 cores.
  static func small(canPull: Bool = false, canLimitCPU: Bool = true) -> EngineFacts {
    EngineFacts(
      ramPages: 1 << 18, vcpuCount: 4, hostCores: 4, canLimitCPU: canLimitCPU, canPull: canPull)
  }
}
