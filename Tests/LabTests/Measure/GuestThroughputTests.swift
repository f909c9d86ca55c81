import Testing

@testable import Lab

@Suite struct GuestThroughputTests {
  /// Beats every 20 ms; `rate` gives the units per second at a time in milliseconds. Silent within
  /// `gap`; what comes after it comes from the destination.
  private func log(
    untilMs: UInt64, gap: Range<UInt64>? = nil, rate: (UInt64) -> UInt64
  ) -> HeartbeatLog {
    var log = HeartbeatLog()
    var (work, sequence): (UInt64, UInt64) = (0, 0)
    for ms in stride(from: UInt64(20), through: untilMs, by: 20) {
      work += rate(ms) * 20 / 1000
      if let gap, gap.contains(ms) { continue }
      let line = "HB \(sequence) \(ms) 0 0 0 \(work) 0 0\n"
      sequence += 1
      let isAfter = gap.map { ms >= $0.upperBound } ?? false
      log.receive(Array(line.utf8), from: isAfter ? .destination : .source, atUs: ms * 1000)
    }
    return log
  }

  private func window(startMs: UInt64, endMs: UInt64, untilMs: UInt64) -> GuestThroughput.Window {
    .init(calmFromUs: 0, startUs: startMs * 1000, endUs: endMs * 1000, untilUs: untilMs * 1000)
  }

  @Test func nothingIsLostWithoutAPause() throws {
    let log = log(untilMs: 6000) { _ in 10_000 }
    let found = try #require(
      GuestThroughput(log, window(startMs: 2000, endMs: 4000, untilMs: 6000), moved: false))
    #expect(found.baselinePerSecond == 10_000)
    #expect(found.slowdownPercent == 0)
    #expect(found.recoveryMs == nil && found.lostMs == nil)
    #expect(found.bucketMs == 10)
    #expect(found.timeline.allSatisfy { $0 == 100 })
    #expect(found.timeline.count == 400)  // 2 s of migration, 2 s after it
    #expect(found.stoppedAtMs == nil && found.resumedAtMs == nil)
  }

  /// Half speed while it is moved, 200 ms of silence, 300 ms at a tenth, then as before.
  @Test func slowWhileMovedAndSlowToComeBack() throws {
    let log = log(untilMs: 8000, gap: 4000..<4200) { ms in
      switch ms {
      case ...2000: 10_000
      case ..<4000: 5000
      case ..<4200: 0
      case ..<4500: 1000
      default: 10_000
      }
    }
    let found = try #require(
      GuestThroughput(log, window(startMs: 2000, endMs: 4400, untilMs: 8000), moved: true))
    #expect(found.slowdownPercent == 50)
    // The last beat before the silence, and the first after it.
    #expect(found.stoppedAtMs == 1980 && found.resumedAtMs == 2200)
    #expect(found.silence(lengthMs: nil) == 1980..<2200)
    // Results of before said how long it was, but not when.
    var earlier = found
    (earlier.stoppedAtMs, earlier.resumedAtMs) = (nil, nil)
    #expect(earlier.silence(lengthMs: nil) == nil && earlier.silence(lengthMs: 900_000) == nil)
    let guessed = try #require(earlier.silence(lengthMs: 200))
    #expect(guessed.count == 200 && abs(Int(guessed.lowerBound) - 1980) <= 20)
    // At 4430 the next 500 ms hold 50 ms of slowness: less than a tenth is missing.
    #expect(try #require(found.recoveryMs) == 230)
    // 1 s of the 2 s, the silence, nine tenths of the 300 ms; a beat is 20 ms.
    #expect(abs(Int(try #require(found.lostMs)) - 1470) <= 20)
  }

  @Test func aGuestThatNeverComesBack() throws {
    let log = log(untilMs: 8000, gap: 4000..<4200) { $0 <= 4000 ? 10_000 : 2000 }
    let found = try #require(
      GuestThroughput(log, window(startMs: 2000, endMs: 4400, untilMs: 8000), moved: true))
    #expect(found.recoveryMs == nil && found.lostMs == nil)
  }

  @Test func aGuestWithoutWorkOrVoice() {
    let idle = log(untilMs: 4000) { _ in 0 }
    let window = window(startMs: 2000, endMs: 3000, untilMs: 4000)
    #expect(GuestThroughput(idle, window, moved: false) == nil)
    #expect(GuestThroughput(HeartbeatLog(), window, moved: false) == nil)
  }

  /// A guest may say anything; the largest numbers must not end the lab.
  @Test func absurdCounters() throws {
    var log = HeartbeatLog()
    for (ms, work) in [(1000, 0), (2000, UInt64.max), (3000, 5), (4000, UInt64.max)] {
      log.receive(Array("HB 0 0 0 0 0 \(work) 0 0\n".utf8), from: .source, atUs: UInt64(ms) * 1000)
    }
    let found = GuestThroughput(
      log, window(startMs: 2000, endMs: 3000, untilMs: 4000), moved: false)
    #expect(found?.slowdownPercent == 100)
  }

  @Test func curve() {
    let curve = WorkCurve([(1000, 10), (2000, 20), (1500, 99), (3000, 15), (4000, 40)])
    #expect(
      [0, 1000, 1500, 2000, 3000, 9000].map { curve.work(atUs: $0) } == [10, 10, 15, 20, 30, 40])
    #expect(curve.rate(fromUs: 0, toUs: 2000) == 10_000)
    #expect(curve.rate(fromUs: 0, toUs: 1000) == nil)
    #expect(curve.buckets(fromUs: 1000, toUs: 4000, widthUs: 1000, countMax: 2) == [10, 10])
  }

  @Test func ratios() {
    #expect(Ratio.scale(.max, 2, over: 4) == UInt64.max / 2)
    #expect(Ratio.scale(.max, .max, over: 1) == .max)
    #expect(Ratio.scale(7, 3, over: 2) == 10)
    #expect(Ratio.scale(1, 1, over: 0) == .max)
  }
}
