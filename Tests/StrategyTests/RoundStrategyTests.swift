import Base
import Strategy
import Testing

/// `precopy` and the rivals: rounds over what was dirtied. 300 ms hold 25,000 pages: 50 ms are overhead.
@Suite struct RoundStrategyTests {
  @Test func precopyCollectsWhenAllIsSentAndStopsWhenTheRestFits() {
    var machine = PrecopyRounds(MigrationConstraints(), .small())
    var samples = Samples(fresh: 1000)
    #expect(machine.handle(samples.later(500)).isEmpty)
    #expect(machine.handle(samples.later(500) { $0.freshPages = 0 }) == [.collect])
    #expect(machine.handle(samples.later(50) { $0.isCollecting = true }).isEmpty)
    let tooMany = samples.epoch(50, dirtied: 25_001, owed: [1: 25_001]) { $0.isCollecting = false }
    #expect(machine.handle(tooMany).isEmpty)
    // Something is left: the round goes on, however little it is.
    #expect(machine.handle(samples.later(200) { $0.dirtyOwedByHeat[1] = 1 }).isEmpty)
    #expect(machine.handle(samples.later(50) { $0.dirtyOwedByHeat[1] = 0 }) == [.collect])
    #expect(machine.handle(samples.epoch(50, dirtied: 25_000, owed: [1: 25_000])) == [.stop(.fits)])
  }

  @Test func whatIsOnItsWayCountsInThePause() {
    var machine = PrecopyRounds(MigrationConstraints(), .small())
    var samples = Samples()
    let sample = samples.epoch(500, dirtied: 25_000, owed: [1: 25_000]) { $0.inFlightBytes = 4096 }
    #expect(!machine.handle(sample).contains(.stop(.fits)))
  }

  @Test func anEpochIsAskedForOnceAndNotBeforeItIsLongEnough() {
    var machine = PrecopyRounds(MigrationConstraints(), .small())
    var samples = Samples()
    #expect(machine.handle(samples.later(99)).isEmpty)
    #expect(machine.handle(samples.later(1)) == [.collect])
    #expect(machine.handle(samples.later(50)).isEmpty)
    // A driver that lost the wish is asked again.
    #expect(machine.handle(samples.later(5_000)) == [.collect])
  }

  @Test func rampRaisesItsLimitAfterTheThirdRound() {
    var machine = Ramp(MigrationConstraints(), .small())
    var samples = Samples()
    // 150 ms hold 10,000 pages; the first step, 278 ms, comes with the third round.
    #expect(
      !machine.handle(samples.epoch(100, dirtied: 1, owed: [1: 20_000])).contains { $0.isLast })
    #expect(
      !machine.handle(samples.epoch(100, dirtied: 1, owed: [1: 20_000])).contains { $0.isLast })
    #expect(machine.handle(samples.epoch(100, dirtied: 1, owed: [1: 20_000])) == [.stop(.raised)])

    var patient = Ramp(MigrationConstraints(), .small())
    var again = Samples()
    for _ in 0..<600 {
      #expect(patient.handle(again.epoch(100, dirtied: 1, owed: [1: 99_000])).isEmpty)
    }
    #expect(
      !patient.handle(again.epoch(100, dirtied: 1, owed: [1: 101_000])).contains { $0.isLast })
    #expect(patient.handle(again.epoch(5_000, dirtied: 1, owed: [1: 99_000])) == [.stop(.raised)])
  }

  @Test func stallWaitsFortySecondsAndSwitchesAtAMinimum() {
    var machine = Stall(MigrationConstraints(), .small())
    var samples = Samples()
    var stoppedMs: UInt64?
    for round in 0..<100 as Range<UInt64> {
      // A saw tooth that never gets better.
      let pages: UInt64 = [60_000, 80_000, 70_000][Int(round % 3)]
      if machine.handle(samples.epoch(1000, dirtied: pages, owed: [1: pages])).contains(
        .stop(.noGain))
      {
        stoppedMs = samples.sample.nowMs
        #expect(pages < 80_000)
        break
      }
    }
    #expect(stoppedMs.map { (41_000...46_000).contains($0) } == true)
  }

  @Test func stallDoesNotStopAGuestThatConverges() {
    var machine = Stall(MigrationConstraints(), .small())
    var samples = Samples()
    var pages: UInt64 = 200_000
    while pages > 26_000 {
      #expect(machine.handle(samples.epoch(5000, dirtied: pages, owed: [1: pages])).isEmpty)
      pages = pages * 9 / 10
    }
    #expect(
      machine.handle(samples.epoch(5000, dirtied: 20_000, owed: [1: 20_000])) == [.stop(.fits)])
  }
}
