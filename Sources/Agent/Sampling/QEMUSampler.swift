import Base
import HostIO
import QMP
import Strategy

/// A guest's dirty rate by QEMU's own reckoning (`calc-dirty-rate`), where its memory can't be read: it
/// samples pages of blocks of 128 MiB and more, and says no more than whole MiB per second.
struct QEMUSampler: Sendable {
  static let pagesPerGiB: UInt64 = 4096
  private static let pollMs: UInt64 = 100

  let client: QMPClient
  /// In seconds; QEMU takes whole ones.
  var windows: [UInt64] = [1, 4]

  func run() async throws -> GuestSample {
    let beganMs = MonotonicClock.nowMs
    let blocks = try await client.ramBlocks()
    let pages = { (blocks: [RAMBlockInfo]) in
      blocks.reduce(UInt64(0)) { $0 + UInt64(Page.count(bytes: $1.usedSize)) }
    }
    let large = blocks.filter { $0.usedSize >= 128 << 20 }
    let (all, seen) = (pages(blocks), pages(large))
    let sampled = min(seen, max(seen * Self.pagesPerGiB / (1 << 18), 1))
    var points: [DirtyCurve.Point] = []
    for seconds in windows {
      let mebibytes = try await rate(seconds)
      let dirtied = min(mebibytes.multipliedReportingOverflow(by: seconds).partialValue << 8, seen)
      let found = dirtied.multipliedReportingOverflow(by: sampled).partialValue / max(seen, 1)
      points.append(
        .init(
          windowMs: seconds * 1000, PageEstimate(found: found, of: sampled, ramPages: seen)))
    }
    return GuestSample(
      source: .qemu, sampledPages: sampled, ramPages: all, unseenPages: all - seen, seed: nil,
      durationMs: MonotonicClock.nowMs - beganMs, cpuMs: nil, zeroPages: nil,
      packedPermille: nil, zstd: nil, known: nil, processors: nil, written: nil, phases: nil,
      dirtyCurve: points.map(GuestSample.Point.init))
  }

  /// Distinct memory dirtied in a window of so many seconds, in MiB per second.
  private func rate(_ seconds: UInt64) async throws -> UInt64 {
    try await client.calcDirtyRate(seconds: seconds, samplePages: Self.pagesPerGiB)
    let deadlineMs = MonotonicClock.nowMs + seconds * 1000 + Monitor.commandTimeoutMs
    repeat {
      try await Task.sleep(nanoseconds: Self.pollMs * 1_000_000)
      if let bytes = try await measured() { return bytes >> 20 }
    } while MonotonicClock.nowMs < deadlineMs
    throw ControlError(.failed, "QEMU doesn't finish its calc-dirty-rate")
  }

  /// In bytes per second; nil while QEMU measures.
  private func measured() async throws -> UInt64? {
    let look = try await client.queryDirtyRate()
    return look.status == .measured ? look.bytesPerSecond : nil
  }
}
