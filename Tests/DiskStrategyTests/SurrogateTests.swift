import Base
import DiskStrategy
import Testing

@Suite struct PopularityTests {
  private func filter(_ threshold: UInt32, capacity: Int = 64) -> PopularityFilter {
    var terms = PopularityFilter.Terms()
    (terms.threshold, terms.capacity, terms.halfLifeMs) = (threshold, capacity, 1000)
    return PopularityFilter(terms)
  }

  @Test func whatIsReadOnceIsNeverPopular() {
    var filter = filter(2, capacity: 1024)
    for block in 0..<5000 {
      let isPopular = filter.touch(block, nowMs: UInt64(block))
      #expect(!isPopular, "\(block)")
    }
    // And a second time long after doesn't make it so.
    let late = filter.touch(4999, nowMs: 100_000)
    let soon = filter.touch(4999, nowMs: 100_100)
    #expect(!late && soon)
  }

  @Test(arguments: [2, 3, 5, 100] as [UInt32]) func asManyTouchesAsAskedFor(threshold: UInt32) {
    var filter = filter(threshold)
    let touches = (0..<(threshold + 3)).map { filter.touch(7, nowMs: 5 + UInt64($0 / 50)) }
    #expect(touches.firstIndex(of: true) == Int(threshold) - 1)
  }

  @Test func touchesLoseTheirWeight() {
    var filter = filter(3)
    // Once per half-life comes to two at most.
    for step in 0..<100 as Range<UInt64> {
      let isPopular = filter.touch(1, nowMs: step * 1000)
      #expect(!isPopular, "\(step)")
    }
    var often = self.filter(3)
    let popular = (0..<20 as Range<UInt64>).map { often.touch(1, nowMs: $0 * 300) }
    #expect(popular.last == true)
  }

  @Test func whatIsPopularStaysBesideManyOthers() {
    var filter = filter(3, capacity: 256)
    var isPopular = false
    for round in 0..<2000 {
      isPopular = filter.touch(-round - 1, nowMs: UInt64(round)) || isPopular
      if round % 10 == 0 { _ = filter.touch(42, nowMs: UInt64(round)) }
    }
    let kept = filter.touch(42, nowMs: 2000)
    #expect(kept && !isPopular)
    var none = self.filter(2, capacity: 0)
    #expect((0..<10).allSatisfy { _ in !none.touch(1, nowMs: 0) })
  }
}

@Suite struct GuestPaceTests {
  /// A disk on which a request takes 1 ms, and longer the more is copied beyond what it has to spare.
  private func run(
    _ pace: inout GuestPace, seconds: UInt64, spare: UInt64, requestsPerSecond: UInt64,
    from start: UInt64 = 0
  ) -> [UInt64] {
    var totals = GuestPace.Totals(requests: 0, latencyUs: 0, copiedBytes: 0)
    var rates: [UInt64] = []
    for tick in 0..<(seconds * 200) {
      let rate = pace.bytesPerSecond
      totals.copiedBytes += rate / 200
      let requests = requestsPerSecond / 200
      totals.requests += requests
      totals.latencyUs += requests * (1000 + (rate > spare ? (rate - spare) * 1000 / spare : 0))
      pace.look(nowMs: start + tick * 5, totals)
      rates.append(rate)
    }
    return rates
  }

  @Test func itFindsWhatTheDiskHasToSpare() throws {
    for spare in [8, 60, 300] as [UInt64] {
      var pace = GuestPace()
      let rates = run(&pace, seconds: 60, spare: spare << 20, requestsPerSecond: 2000)
      let late = rates.suffix(6000)
      let mean = late.reduce(0, +) / UInt64(late.count)
      #expect((spare << 20) * 6 / 10 < mean && mean < (spare << 20) * 13 / 10, "\(spare): \(mean)")
      #expect(try #require(pace.baselineUs) == 1000)
      // It rests now and then, and not for long.
      let resting = late.filter { $0 == 0 }.count
      #expect((100...400).contains(resting), "\(resting)")
    }
  }

  @Test func nothingIsTakenForLatency() {
    var pace = GuestPace()
    let rates = run(&pace, seconds: 10, spare: 1 << 40, requestsPerSecond: 0)
    // Nobody is there: as fast as it goes.
    #expect(rates.last ?? 0 > 1 << 30 && pace.baselineUs == nil)
    // Somebody comes, and is listened to first.
    let busy = run(&pace, seconds: 20, spare: 50 << 20, requestsPerSecond: 1000, from: 10_000)
    #expect(pace.baselineUs != nil && busy.suffix(1000).allSatisfy { $0 < 100 << 20 })
  }

  @Test func itNeverStandsStill() {
    var pace = GuestPace()
    let rates = run(&pace, seconds: 60, spare: 1000, requestsPerSecond: 1000)
    #expect(rates.suffix(2000).filter { $0 > 0 }.allSatisfy { $0 >= 1 << 20 })
    #expect(rates.suffix(2000).contains { $0 > 0 })
  }
}

@Suite struct SurrogateRecordTests {
  @Test func headersAreBelievedOrNot() throws {
    let record = SurrogateRecord(
      log: 0x1122_3344_5566_7788, sequence: 9, kind: .data, blocks: 100..<356, dataSum: 77)
    let bytes = record.encoded
    #expect(bytes.count == SurrogateRecord.usedByteCount && record.unitCount == 257)
    #expect(SurrogateRecord(bytes.span.bytes, log: record.log, blockCount: 356) == record)
    #expect(SurrogateRecord(bytes.span.bytes, log: record.log, blockCount: 355) == nil)
    #expect(SurrogateRecord(bytes.span.bytes, log: 5, blockCount: 356) == nil)
    for index in bytes.indices {
      var changed = bytes
      changed[index] ^= 0x10
      #expect(
        SurrogateRecord(changed.span.bytes, log: record.log, blockCount: 1 << 20) == nil, "\(index)"
      )
      #expect(
        SurrogateRecord(
          bytes.span.bytes.extracting(..<index), log: record.log, blockCount: 356) == nil)
    }
    for blocks in [0..<0, 5..<262, (1 << 40)..<(1 << 40 + 2)] {
      let odd = SurrogateRecord(log: 1, sequence: 1, kind: .data, blocks: blocks, dataSum: 0)
      #expect(
        SurrogateRecord(odd.encoded.span.bytes, log: 1, blockCount: 1 << 20) == nil, "\(blocks)")
    }
    let zeros = SurrogateRecord(log: 1, sequence: 1, kind: .zeros, blocks: 0..<16_384, dataSum: 0)
    #expect(SurrogateRecord(zeros.encoded.span.bytes, log: 1, blockCount: 1 << 20) == zeros)
    #expect(zeros.unitCount == 1)
  }
}
