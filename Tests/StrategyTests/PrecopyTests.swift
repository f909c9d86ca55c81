import Base
import Strategy
import Testing

@Suite struct PrecopyTests {
  static func sample(
    at nowMs: UInt64 = 0, remaining: UInt64 = 0, pass: UInt64, dirty: UInt64 = 0, rate: UInt64 = 0
  ) -> MigrationSample {
    MigrationSample(
      nowMs: nowMs, ram: ByteCount(1 << 30), remaining: ByteCount(remaining),
      dirtyRate: ByteRate(bytesPerSecond: dirty), pass: pass,
      wireRate: ByteRate(bytesPerSecond: rate), inFlight: ByteCount(0))
  }

  @Test func switchoverIsHeldThroughTheBulkPassAndReleasedOnce() throws {
    var machine = PrecopyMachine(downtimeLimitMs: 300)
    let rate = try #require(ByteRate(bytesPerSecond: 100))
    #expect(machine.handle(Self.sample(pass: 1)).isEmpty)
    #expect(machine.handle(Self.sample(pass: 1, rate: 100)) == [.pinBandwidth(rate)])
    #expect(machine.handle(Self.sample(pass: 1, rate: 105)).isEmpty)
    #expect(
      machine.handle(Self.sample(pass: 2, rate: 105))
        == [.limitDowntime(ms: 250), .releaseSwitchover])
    #expect(machine.handle(Self.sample(pass: 3, rate: 105)).isEmpty)
  }

  @Test(arguments: [(0, 1), (1, 1), (3, 1), (40, 10), (60, 15), (1000, 950)] as [(UInt64, UInt64)])
  func limitForQEMUIsNeverZero(limit: UInt64, effective: UInt64) {
    #expect(PrecopyMachine(downtimeLimitMs: limit).effectiveLimitMs == effective)
  }

  @Test func expectedDowntimeCountsWhatIsOnItsWay() {
    var sample = Self.sample(remaining: 50_000_000, pass: 2, rate: 100_000_000)
    sample.inFlight = ByteCount(10_000_000)
    #expect(PrecopyMachine(downtimeLimitMs: 300).expectedDowntimeMs(sample) == 650)
  }
}

@Suite struct ProgressTests {
  /// Whatever the samples say, the percentage stays within bounds and never falls.
  @Test(arguments: UInt64(1)...200) func neverRunsBackwards(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var estimator = ProgressEstimator()
    var last: UInt64 = 0
    for step in 0..<100 as Range<UInt64> {
      let sample = PrecopyTests.sample(
        at: step * 50, remaining: random.next() >> UInt64.random(in: 0...63, using: &random),
        pass: step < 50 ? 1 : step / 10, dirty: random.next() >> 20, rate: random.next() >> 20)
      estimator.handle(sample, expectedDowntimeMs: random.next())
      #expect(estimator.permille >= last && estimator.permille < 1000, "seed \(seed)")
      last = estimator.permille
    }
    estimator.finished()
    #expect(estimator.permille == 1000 && estimator.etaMs == 0)
  }

  @Test func etaOfTheBulkPassFollowsItsSpeed() {
    var estimator = ProgressEstimator()
    estimator.handle(
      PrecopyTests.sample(at: 0, remaining: 1 << 30, pass: 1), expectedDowntimeMs: nil)
    estimator.handle(
      PrecopyTests.sample(at: 1000, remaining: 3 << 28, pass: 1), expectedDowntimeMs: nil)
    #expect(estimator.permille == 225)
    #expect(estimator.etaMs == 3000)
  }

  /// What the bulk pass leaves dirty nobody knows before its end.
  @Test func theBulkPassHasNoLatestEnd() {
    var estimator = ProgressEstimator()
    for step in 0..<20 as Range<UInt64> {
      estimator.handle(
        PrecopyTests.sample(at: step * 500, remaining: (1 << 30) - step << 20, pass: 1),
        expectedDowntimeMs: nil)
    }
    #expect(estimator.etaMs != nil && estimator.band.lowMs != nil && estimator.band.highMs == nil)
  }

  /// In the course of a pass less and less of what QEMU saw is left, but the guest goes on dirtying.
  @Test func whatQEMUHasNotSeenYetCounts() throws {
    var estimator = ProgressEstimator(downtimeLimitMs: 300)
    var etas: [UInt64] = []
    for step in 0...6 as ClosedRange<UInt64> {
      estimator.handle(
        PrecopyTests.sample(
          at: 10_000 + step * 500, remaining: 60_000_000 - step * 10_000_000, pass: 2,
          dirty: 10_000_000, rate: 20_000_000), expectedDowntimeMs: 5000)
      etas.append(try #require(estimator.etaMs))
    }
    // The pause carries 6 of the 60 MB; the others go at 20 - 10 MB/s. After 3 s QEMU sees nothing, and
    // 30 MB are dirty again.
    #expect(etas.first == 5700 && etas.last == 2700)
    #expect(estimator.workingSet.bytes == 60_000_000)
  }

  /// Nearly all of what is left is zeros: the speed so far says nothing of it.
  @Test func knownZerosDoNotCountInTheBulkPass() {
    var estimator = ProgressEstimator(downtimeLimitMs: 300)
    estimator.handle(
      PrecopyTests.sample(at: 0, remaining: 1 << 30, pass: 1), expectedDowntimeMs: nil)
    var sample = PrecopyTests.sample(
      at: 5000, remaining: 600_000_000, pass: 1, rate: 100_000_000)
    (sample.contents, sample.inFlight) = (ByteCount(40_000_000), ByteCount(10_000_000))
    estimator.handle(sample, expectedDowntimeMs: nil)
    #expect(estimator.etaMs == 500 + 300)
    // Half a second at 100 MB/s less what grows meanwhile, and less the 30 MB of the pause.
    (sample.nowMs, sample.growthPerSecond) = (5050, 60_000_000)
    estimator.handle(sample, expectedDowntimeMs: nil)
    #expect(estimator.etaMs == 500 + 300)
  }

  @Test func noEtaForAGuestThatNeverConverges() {
    var estimator = ProgressEstimator()
    estimator.handle(
      PrecopyTests.sample(remaining: 1 << 28, pass: 3, dirty: 200, rate: 100),
      expectedDowntimeMs: 300)
    #expect(estimator.etaMs == nil)
  }
}
