import Testing

@testable import Agent

@Suite struct PageCostsTests {
  /// So many pages of each kind, in batches; dirtied ones are raw.
  private func counters(
    raw: UInt64 = 0, named: UInt64 = 0, zero: UInt64 = 0, dirtied: UInt64 = 0,
    dirtiedBytes: UInt64? = nil
  ) -> SendQueue.Counters {
    var counters = SendQueue.Counters()
    counters.rawPages = raw + dirtied
    (counters.diskPages, counters.zeroPages) = (named, zero)
    (counters.dirtiedPages, counters.dirtiedBytes) = (dirtied, dirtiedBytes ?? dirtied * 4096)
    counters.wireBytes = raw * 4096 + named * 48 + counters.dirtiedBytes
    return counters
  }

  @Test func beforeAnythingWentAPageIsAPage() {
    var costs = PageCosts()
    costs.note(counters(), isScan: true)
    #expect(costs.perPage == 4096 && costs.perWrittenPage == 4096 && costs.perDirtiedPage == 4096)
  }

  @Test func aGuestOfZerosCostsNothingButWhatItWrites() {
    var costs = PageCosts()
    costs.note(counters(raw: 2000, zero: 98_000), isScan: true)
    #expect(costs.perPage == 81)
    #expect(costs.perWrittenPage == 4096)
    #expect(costs.perDirtiedPage == 4096)
  }

  /// A page cache that the destination has, and a guest that goes on writing what nobody has.
  @Test func whatIsWrittenIsNotAsCheapAsWhatIsNamed() {
    var costs = PageCosts()
    costs.note(counters(raw: 4000, named: 60_000), isScan: true)
    #expect(costs.perWrittenPage < 400)
    #expect(costs.perDirtiedPage > 4000)
    costs.note(counters(raw: 4000, named: 60_000, dirtied: 300), isScan: false)
    #expect(costs.perDirtiedPage > 4000)
  }

  /// Of a scan that was nearly all named, hardly anything says what a page costs.
  @Test func fewPagesSayLittle() {
    var costs = PageCosts()
    costs.note(counters(raw: 10, named: 60_000), isScan: true)
    #expect(costs.perDirtiedPage == 4096)
  }

  @Test func pagesThatGoAsTheirDifferenceAreCheap() {
    var costs = PageCosts()
    costs.note(counters(raw: 50_000), isScan: false)
    #expect(costs.perDirtiedPage == 4096)
    costs.note(counters(raw: 50_000, dirtied: 500, dirtiedBytes: 200_000), isScan: false)
    #expect((1000...2000).contains(costs.perDirtiedPage))
    costs.note(counters(raw: 50_000, dirtied: 5000, dirtiedBytes: 2_000_000), isScan: false)
    #expect(costs.perDirtiedPage == 400)
  }

  /// What was dirtied during the scan went for the first time; afterwards it is there already.
  @Test func afterTheScanOnlyWhatWentSinceCounts() {
    var costs = PageCosts()
    costs.note(counters(raw: 50_000, dirtied: 20_000), isScan: true)
    costs.note(counters(raw: 60_000, dirtied: 20_000), isScan: false)
    #expect(costs.perDirtiedPage == 4096)
    costs.note(
      counters(raw: 60_000, dirtied: 22_000, dirtiedBytes: 20_000 * 4096 + 2000 * 500),
      isScan: false)
    #expect(costs.perDirtiedPage == 500)
  }
}
