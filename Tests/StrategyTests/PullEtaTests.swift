import Base
import Strategy
import Testing

/// A pull of 1,000,000 pages at 20 a millisecond, looked at each half second.
private struct PullClock {
  static let pagesPerMs: UInt64 = 20
  private(set) var eta = PullEta()
  private(set) var nowMs: UInt64 = 0
  private(set) var given: UInt64 = 0
  private let total: UInt64 = 1_000_000
  /// Most that was foretold while pages were missing.
  private(set) var mostMs: UInt64 = 0

  var leftMs: UInt64 { (total - given) / Self.pagesPerMs }

  /// - Parameter pages: given by then.
  mutating func look(afterMs ms: UInt64 = 500, pages: UInt64, isConnected: Bool = true) {
    nowMs += ms
    given = min(given + pages, total)
    eta.note(
      .init(given: given, crossed: given, left: total - given, isConnected: isConnected),
      nowMs: nowMs)
    mostMs = max(mostMs, eta.etaMs ?? 0)
  }

  mutating func run(looks: Int) {
    for _ in 0..<looks { look(pages: 500 * Self.pagesPerMs) }
  }
}

@Suite struct PullEtaTests {
  @Test func thePaceOfTheLastSecondsNamesTheEnd() {
    var clock = PullClock()
    clock.run(looks: 1)
    #expect(clock.eta.etaMs == nil && clock.eta.waitedMs == nil)
    clock.run(looks: 20)
    #expect(clock.eta.etaMs == clock.leftMs && clock.eta.waitedMs == nil)
  }

  /// Nobody knows of the cut: the connection is silent, and what a socket still took trickles.
  @Test func aSilentLinkIsWaitedForAndForetellsNothing() {
    var clock = PullClock()
    clock.run(looks: 20)
    clock.look(pages: 3)
    for _ in 0..<600 {
      clock.look(pages: 0)
      if clock.eta.waitedMs == nil { #expect((clock.eta.etaMs ?? .max) < 2 * clock.leftMs) }
    }
    #expect(clock.eta.etaMs == nil && clock.eta.waitedMs == 300_000)
    #expect(clock.mostMs < 200_000, "days were foretold")
  }

  @Test func aBrokenConnectionIsWaitedForAtOnceAndUntilSomethingComes() {
    var clock = PullClock()
    clock.run(looks: 20)
    clock.look(pages: 0, isConnected: false)
    #expect(clock.eta.etaMs == nil && clock.eta.waitedMs == 500)
    for _ in 0..<60 { clock.look(pages: 0, isConnected: false) }
    #expect(clock.eta.waitedMs == 30_500)
    // It is there again, and has not carried anything yet.
    clock.look(pages: 0)
    #expect(clock.eta.etaMs == nil && clock.eta.waitedMs == 31_000)
    // What it carries now counts, not the time of the cut.
    clock.run(looks: 3)
    #expect(clock.eta.waitedMs == nil && clock.eta.etaMs == clock.leftMs)
  }

  @Test func theLinksRateIsBelievedUntilThereIsAPace() {
    var eta = PullEta()
    let rate = ByteRate(bytesPerSecond: 4_096_000)
    eta.note(.init(given: 0, crossed: 0, left: 5000, isConnected: true), linkRate: rate, nowMs: 0)
    #expect(eta.etaMs == 5000)
    // Half of what is given the destination makes itself, and only the rest is on the link.
    eta.note(
      .init(given: 200, crossed: 100, left: 4900, isConnected: true), linkRate: rate, nowMs: 500)
    #expect(eta.etaMs == 24_500)
  }

  @Test func whoHasEverythingWaitsForNothing() {
    var eta = PullEta()
    for now in stride(from: 0, to: 60_000, by: 500) as StrideTo<UInt64> {
      eta.note(.init(given: 7, crossed: 7, left: 0, isConnected: true), nowMs: now)
      #expect(eta.etaMs == 0 && eta.waitedMs == nil)
    }
  }

  /// Clocks and counters that make no sense are no reason to trap.
  @Test(arguments: UInt64(1)...100) func anyLooksAreTaken(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var eta = PullEta()
    for _ in 0..<200 {
      func any() -> UInt64 { random.next() >> UInt64.random(in: 0...63, using: &random) }
      eta.note(
        .init(given: any(), crossed: any(), left: any(), isConnected: random.next() % 8 > 0),
        linkRate: ByteRate(bytesPerSecond: any()), nowMs: any())
      #expect(eta.etaMs == nil || eta.waitedMs == nil, "seed \(seed)")
    }
  }

  /// Before there is a pace the link's counts, for as many bytes as pages take on it.
  @Test func packedPagesAreTimedAsTheyCross() {
    func etaMs(_ wireBytesPerPage: UInt64?) -> UInt64? {
      var eta = PullEta()
      eta.note(
        .init(
          given: 10, crossed: 10, left: 1000, isConnected: true, wireBytesPerPage: wireBytesPerPage),
        linkRate: ByteRate(bytesPerSecond: 4_096_000), nowMs: 0)
      return eta.etaMs
    }
    #expect(etaMs(nil) == 1000 && etaMs(4096) == 1000 && etaMs(1024) == 250)
  }

  @Test func theEstimatorForgetsBandAndEndWhileItWaits() {
    var estimator = ProgressEstimator()
    func look(_ nowMs: UInt64, _ given: UInt64, isConnected: Bool) {
      estimator.pulling(
        .init(given: given, crossed: given, left: 100_000 - given, isConnected: isConnected),
        linkRate: nil, nowMs: nowMs)
    }
    for step in 0..<10 as Range<UInt64> { look(step * 500, step * 1000, isConnected: true) }
    #expect(estimator.etaMs != nil && estimator.band.lowMs != nil)
    look(5000, 9000, isConnected: false)
    #expect(estimator.etaMs == nil && estimator.waitedMs == 500)
    #expect(estimator.band == EtaBand())
    estimator.finished()
    #expect(estimator.etaMs == 0 && estimator.waitedMs == nil)
  }
}
