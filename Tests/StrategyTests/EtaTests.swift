import Base
import Strategy
import Testing

@Suite struct EtaBandTests {
  @Test func forecastsThatAgreeNarrowTheBand() throws {
    var band = EtaBand()
    var widths: [UInt64] = []
    for step in 0..<40 as Range<UInt64> {
      band.note(nowMs: step * 250, etaMs: 20_000 - step * 250)
      widths.append(try #require(band.highMs) - (try #require(band.lowMs)))
    }
    #expect(try #require(widths.first) > 10_000)
    #expect(try #require(widths.last) < 3000)
  }

  @Test func forecastsThatDisagreeWidenIt() throws {
    var band = EtaBand()
    for step in 0..<20 as Range<UInt64> { band.note(nowMs: step * 250, etaMs: 10_000) }
    band.note(nowMs: 5000, etaMs: 2000)
    #expect(try #require(band.highMs) >= 9000)
    #expect(try #require(band.lowMs) <= 2000)
  }

  @Test func anUnknownEndLeavesItOpenForAWhile() {
    var band = EtaBand()
    band.note(nowMs: 0, etaMs: nil)
    #expect(band.lowMs == nil && band.highMs == nil)
    band.note(nowMs: 500, etaMs: 1000)
    #expect(band.lowMs != nil && band.highMs == nil)
    band.note(nowMs: 11_000, etaMs: 1000)
    #expect(band.highMs != nil)
  }

  @Test(arguments: UInt64(1)...100) func theEtaIsWithinItsBand(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    var band = EtaBand()
    var now: UInt64 = 0
    for _ in 0..<100 {
      now += random.next() % 3000
      let eta = random.next() >> UInt64.random(in: 0...63, using: &random)
      band.note(nowMs: now, etaMs: eta)
      #expect(try #require(band.lowMs) <= eta, "seed \(seed)")
      if let high = band.highMs { #expect(high >= eta, "seed \(seed)") }
    }
  }
}

@Suite struct EtaTrackTests {
  /// A run of any length leaves a bounded number of looks, spread over all of it.
  @Test(arguments: [500, 5000, 60_000, 7_200_000] as [UInt64]) func staysBounded(totalMs: UInt64)
    throws
  {
    var track = EtaTrack()
    for at in stride(from: 0, to: totalMs, by: 50) {
      track.note(atMs: at, etaMs: totalMs - at, lowMs: totalMs - at, highMs: nil)
      #expect(track.looks.count < EtaTrack.lookCountMax)
    }
    let judged = track.judged(totalMs: totalMs)
    #expect(judged.count >= min(5, Int(totalMs / 100)))
    #expect(try #require(track.looks.last).atMs >= totalMs / 10 * 8)
    #expect(judged.allSatisfy { $0.errorMs == 0 && $0.isWithinBand == true })
    #expect(judged.meanErrorPermille(totalMs: totalMs) == 0)
    #expect(judged.withinBandPermille == 1000 && judged.unknownPermille == 0)
  }

  @Test func errorsHaveTheirSign() {
    var track = EtaTrack()
    track.note(atMs: 0, etaMs: nil, lowMs: nil, highMs: nil)
    track.note(atMs: 1000, etaMs: 5000, lowMs: 4500, highMs: 6000)
    track.note(atMs: 2000, etaMs: 1000, lowMs: 500, highMs: 3500)
    let judged = track.judged(totalMs: 5000)
    #expect(judged.map(\.errorMs) == [nil, 1000, -2000])
    #expect(judged.map(\.isWithinBand) == [nil, false, true])
    #expect(judged.meanErrorPermille(totalMs: 5000) == 300)
    #expect(judged.withinBandPermille == 500 && judged.unknownPermille == 333)
  }

  @Test func nothingKnownIsNotZero() {
    let none = EtaTrack().judged(totalMs: 1000)
    #expect(none.meanErrorPermille(totalMs: 1000) == nil)
    #expect(none.withinBandPermille == nil && none.unknownPermille == nil)
  }
}

@Suite struct WorkingSetTests {
  @Test func isTheMostOfTheLastPasses() {
    var set = WorkingSet()
    set.handle(PrecopyTests.sample(remaining: 1 << 30, pass: 1))
    #expect(set.bytes == nil)
    for (pass, remaining) in [(2, 500), (2, 400), (3, 300), (4, 200), (5, 100), (6, 50)] {
      set.handle(PrecopyTests.sample(remaining: UInt64(remaining), pass: UInt64(pass)))
    }
    #expect(set.bytes == 300)
  }
}
