import Base
import Strategy
import Testing

@Suite struct LinkEstimateTests {
  /// Arrivals each 10 ms of a lane that has `rate` bytes per millisecond from `fromMs` to `toMs`, and a
  /// faster one until `endMs`, when it is alone.
  private func lane(
    _ rate: UInt64, fromMs: UInt64 = 0, toMs: UInt64, then fast: UInt64 = 0, endMs: UInt64 = 0
  ) -> [LinkEstimate.Arrival] {
    var bytes: UInt64 = 262_144
    return stride(from: fromMs, through: max(toMs, endMs), by: 10).map { ms in
      if ms > fromMs { bytes += (ms <= toMs ? rate : fast) * 10 }
      return LinkEstimate.Arrival(bytes: bytes, atUs: 77_000_000 + ms * 1000)
    }
  }

  @Test func lanesAddUp() throws {
    let estimate = try #require(
      LinkEstimate(
        [lane(20_000, toMs: 400), lane(30_000, toMs: 400)],
        roundTripsUs: [900, 100, 300, 200, 5000]))
    #expect(estimate.rate == ByteRate(bytesPerSecond: 50_000_000))
    #expect(estimate.roundTripUs == 300)
  }

  /// 50 MB/s: one lane is done after 300 ms, and the other has the link for itself.
  @Test func aLaneAloneDoesNotCountTwice() throws {
    let lanes = [
      lane(30_000, toMs: 300), lane(20_000, fromMs: 20, toMs: 300, then: 50_000, endMs: 600),
    ]
    let rate = try #require(LinkEstimate(lanes, roundTripsUs: [1])).rate.bytesPerSecond
    #expect((49_000_000...51_000_000).contains(rate), "\(rate)")
  }

  /// A link so fast that the lanes were never busy together: what they had in all of the time.
  @Test func lanesOneAfterTheOther() throws {
    let lanes = [
      lane(50_000, toMs: 100), lane(50_000, fromMs: 200, toMs: 300),
      lane(9, fromMs: 150, toMs: 150),
    ]
    let estimate = try #require(LinkEstimate(lanes, roundTripsUs: [1]))
    #expect(estimate.rate.bytesPerSecond == 10_000_000_000 / 300)
  }

  @Test func nothingIsMadeUp() {
    #expect(LinkEstimate([], roundTripsUs: [1]) == nil)
    #expect(LinkEstimate([[]], roundTripsUs: [1]) == nil)
    #expect(LinkEstimate([lane(9, toMs: 0)], roundTripsUs: [1]) == nil)
    #expect(LinkEstimate([lane(9, toMs: 100)], roundTripsUs: []) == nil)
    #expect(LinkEstimate([lane(0, toMs: 100)], roundTripsUs: [1]) == nil)
    #expect(LinkEstimate([lane(9, toMs: 100).reversed()], roundTripsUs: [1]) == nil)
  }

  @Test func hostileNumbersSaturate() throws {
    let lane = [
      LinkEstimate.Arrival(bytes: 0, atUs: 0), LinkEstimate.Arrival(bytes: .max, atUs: 1),
      LinkEstimate.Arrival(bytes: .max, atUs: .max),
    ]
    #expect(LinkEstimate([lane, lane], roundTripsUs: [.max]) == nil)
    let late = [UInt64](repeating: .max, count: 3).map { LinkEstimate.Arrival(bytes: $0, atUs: $0) }
    #expect(LinkEstimate([late, late], roundTripsUs: [.max]) == nil)
    let short = [lane[0], LinkEstimate.Arrival(bytes: .max, atUs: 4)]
    let estimate = try #require(LinkEstimate([short, short], roundTripsUs: [.max]))
    #expect(estimate.rate.bytesPerSecond == .max)
  }
}
