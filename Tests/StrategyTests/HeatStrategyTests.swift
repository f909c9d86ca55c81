import Base
import Strategy
import Testing

/// `hotpages`, `dsm` and `auto`: dirtied pages wait while the scan runs.
@Suite struct HeatStrategyTests {
  private func scanned(_ machine: inout some MigrationStrategy) -> Samples {
    let samples = Samples(fresh: 200_000)
    #expect(machine.handle(samples.sample) == [.share(scanPermille: 1000), .holdBack(heat: 0)])
    return samples
  }

  @Test func hotpagesHoldsTheHotAndSendsTheRest() {
    var machine = HotPages(MigrationConstraints(), .small())
    var samples = scanned(&machine)
    // The scan of 2.6 s has an epoch every 163 ms.
    #expect(machine.handle(samples.later(162)).isEmpty)
    #expect(machine.handle(samples.later(1)) == [.collect])
    #expect(machine.handle(samples.epoch(100, dirtied: 9, owed: [1: 9])).isEmpty)
    #expect(machine.handle(samples.later(2000) { $0.freshPages = 0 }) == [.collect])
    // 20,000 hot pages fit 300 ms together with little else; the 30,000 cold ones are to be sent.
    let effects = machine.handle(
      samples.epoch(50, dirtied: 20_000, owed: [8: 20_000, 1: 30_000]) {
        $0.supersededPages = 20_000
      })
    guard case .holdBack(let heat)? = effects.first else {
      Issue.record("nothing is held back: \(effects)")
      return
    }
    #expect(effects.count == 1 && (2...8).contains(heat))
    #expect(
      machine.handle(samples.epoch(400, dirtied: 20_000, owed: [8: 20_000])) == [.stop(.fits)])
  }

  @Test func hotpagesStopsWhenNothingGetsShorter() {
    var machine = HotPages(MigrationConstraints(), .small())
    var samples = scanned(&machine)
    _ = machine.handle(samples.later(2000) { $0.freshPages = 0 })
    // All of it is dirtied in every epoch: sending any of it is for nothing.
    let effects = machine.handle(samples.epoch(500, dirtied: 80_000, owed: [8: 80_000]))
    #expect(effects.isEmpty)
    #expect(machine.handle(samples.later(50)) == [.stop(.noGain)])
  }

  @Test func hotpagesEndsThoughEveryPlanPromisesMore() {
    var machine = HotPages(MigrationConstraints(), .small())
    var samples = scanned(&machine)
    _ = machine.handle(samples.later(2000) { $0.freshPages = 0 })
    var epochs = 0
    // Cold by its heat, and yet as many again after every round.
    while epochs < 100 {
      let sample = samples.epoch(800, dirtied: 80_000, owed: [1: 80_000]) {
        $0.lastEpoch?.newlyOwedPages = 0
      }
      if machine.handle(sample) == [.stop(.noGain)] { break }
      epochs += 1
    }
    #expect(epochs == 5)
  }

  @Test func dsmPullsAfterOnePassAndOnlyMarksBefore() {
    var machine = DSM(MigrationConstraints(), .small(canPull: true))
    var samples = scanned(&machine)
    #expect(machine.handle(samples.later(1000)) == [.collect])
    #expect(machine.handle(samples.epoch(10, dirtied: 90_000, owed: [1: 90_000])).isEmpty)
    #expect(machine.handle(samples.later(9) { $0.freshPages = 0 }) == [.pull(.scanDone)])
    #expect(machine.acting == .dsm)
  }

  /// What is on its way at the end of the pass: bytes, or pages of zeros or packed ones that the destination's QEMU
  /// writes.
  @Test(arguments: [(409_600 * 30, 0), (0, 30), (409_600 * 30, 25)] as [(UInt64, UInt64)])
  func dsmWaitsForWhatIsOnItsWay(bytes: UInt64, applyingMs: UInt64) {
    var machine = DSM(MigrationConstraints(), .small(canPull: true))
    var samples = scanned(&machine)
    _ = machine.handle(samples.later(1000))
    let first = samples.later(9) { sample in
      (sample.freshPages, sample.inFlightBytes, sample.applyingMs) = (0, bytes, applyingMs)
    }
    var stubborn = machine
    #expect(machine.handle(first).isEmpty)
    #expect(StopForecast(pulling: first, .small()).downtimeMs == 80)
    let next = samples.later(50) { sample in
      (sample.inFlightBytes, sample.applyingMs) = (bytes / 3, applyingMs / 3)
    }
    #expect(machine.handle(next) == [.pull(.scanDone)])
    // There is an end to that.
    _ = stubborn.handle(first)
    var later = first
    later.nowMs += 4999
    #expect(stubborn.handle(later).isEmpty)
    later.nowMs += 1
    #expect(stubborn.handle(later) == [.pull(.scanDone)])
  }

  /// What the guest wrote while the last pages were on their way is read before it stops, not while it stands still.
  @Test func dsmLooksOnceMoreBeforeItLeaves() {
    var machine = DSM(MigrationConstraints(), .small(canPull: true))
    var samples = scanned(&machine)
    #expect(machine.handle(samples.later(1000)) == [.collect])
    let drained: (inout EngineSample) -> Void = { $0.freshPages = 0 }
    _ = machine.handle(samples.epoch(10, dirtied: 90_000, owed: [1: 90_000]))
    #expect(machine.handle(samples.later(200, drained)) == [.collect])
    var endless = machine
    #expect(machine.handle(samples.later(10) { $0.isCollecting = true }).isEmpty)
    var later = samples.sample
    let seen = samples.epoch(10, dirtied: 9_000, owed: [1: 99_000]) { $0.isCollecting = false }
    #expect(machine.handle(seen) == [.pull(.scanDone)])
    later.nowMs += 989
    #expect(endless.handle(later).isEmpty)
    later.nowMs += 1
    #expect(endless.handle(later) == [.pull(.scanDone)])
  }

  /// A guest that writes next to nothing leaves at once; a look that is under way is waited for.
  @Test(arguments: [true, false]) func dsmLooksNoMoreThanItHasTo(isCollecting: Bool) {
    var machine = DSM(MigrationConstraints(), .small(canPull: true))
    var samples = scanned(&machine)
    _ = machine.handle(samples.later(1000))
    _ = machine.handle(samples.epoch(10, dirtied: isCollecting ? 90_000 : 500, owed: [1: 500]))
    let sample = samples.later(2000) { ($0.freshPages, $0.isCollecting) = (0, isCollecting) }
    #expect(machine.handle(sample) == (isCollecting ? [] : [.pull(.scanDone)]))
    guard isCollecting else { return }
    #expect(machine.handle(samples.later(10) { $0.isCollecting = false }) == [.pull(.scanDone)])
  }

  @Test func dsmWithoutPullDoesWhatHotpagesDoes() {
    var machine = DSM(MigrationConstraints(), .small(canPull: false))
    var twin = HotPages(MigrationConstraints(), .small(canPull: false))
    var samples = scanned(&machine)
    _ = twin.handle(samples.sample)
    #expect(machine.acting == .hotpages)
    for owed in [90_000, 60_000, 20_000] as [UInt64] {
      let sample = samples.epoch(900, dirtied: owed, owed: [2: owed]) { $0.freshPages = 0 }
      #expect(machine.handle(sample) == twin.handle(sample))
    }
  }

  @Test func autoStopsWhatFitsAndPullsWhatDoesNot() {
    var easy = Auto(MigrationConstraints(), .small(canPull: true))
    var samples = scanned(&easy)
    _ = easy.handle(samples.later(2000) { $0.freshPages = 0 })
    #expect(easy.handle(samples.epoch(50, dirtied: 10, owed: [1: 10])) == [.stop(.fits)])

    var hard = Auto(MigrationConstraints(), .small(canPull: true))
    var others = scanned(&hard)
    _ = hard.handle(others.later(2000) { $0.freshPages = 0 })
    // One epoch says nothing of heat.
    let early = hard.handle(others.epoch(500, dirtied: 80_000, owed: [8: 80_000]))
    #expect(!early.contains(where: \.isLast) && hard.reason == nil)
    let first: [EngineEffect] = [.share(scanPermille: 1000), .holdBack(heat: 0)]
    var (busy, later) = (hard, others)
    let effects = hard.handle(others.epoch(500, dirtied: 80_000, owed: [8: 80_000]))
    #expect(effects == first + [.pull(.scanDone)] && hard.acting == .dsm)
    #expect(hard.reason?.contains("850 ms") == true)
    // It leaves as `dsm` does: when what is on its way has arrived, and after a last look.
    let way = later.epoch(500, dirtied: 80_000, owed: [8: 80_000]) { sample in
      sample.inFlightBytes = 100 * Samples.pagesPerMs * 4096
    }
    #expect(busy.handle(way) == first && busy.acting == .dsm)
    #expect(busy.handle(later.later(100) { $0.inFlightBytes = 0 }) == [.collect])
    let seen = later.epoch(10, dirtied: 9_000, owed: [1: 89_000])
    #expect(busy.handle(seen) == [.pull(.scanDone)])
  }

  /// `hotpages` also ends between epochs, with whatever pause there is then: a destination that can pull spares it.
  @Test func autoNeverStopsWithALongPauseWhereItCanPull() {
    var machine = Auto(MigrationConstraints(), .small(canPull: true))
    var samples = scanned(&machine)
    // Cold pages that a round would send in time: `hotpages` goes on.
    for _ in 0..<3 {
      _ = machine.handle(samples.epoch(500, dirtied: 1000, owed: [0: 60_000]) { $0.freshPages = 0 })
    }
    #expect(machine.acting == .hotpages)
    // The guest turns hot: nothing pays any more.
    var effects: [EngineEffect] = []
    for _ in 0..<12 where !effects.contains(where: \.isLast) {
      effects += machine.handle(samples.epoch(500, dirtied: 80_000, owed: [8: 80_000]))
      for _ in 0..<9 where !effects.contains(where: \.isLast) {
        effects += machine.handle(samples.later(50))
      }
    }
    #expect(effects.filter(\.isLast) == [.pull(.scanDone)])
    #expect(machine.acting == .dsm)
  }

  @Test func autoSlowsTheGuestDownWhereThePauseWouldBeAboveTheCeiling() {
    let constraints = MigrationConstraints(
      downtimeLimitMs: 300, downtimeCeilingMs: 500, maxThrottlePercent: 50)
    var machine = Auto(constraints, .small(canPull: false))
    var samples = scanned(&machine)
    _ = machine.handle(samples.later(2000) { $0.freshPages = 0 })
    var effects: [EngineEffect] = []
    for _ in 0..<6 {
      effects += machine.handle(samples.epoch(500, dirtied: 80_000, owed: [8: 80_000]))
    }
    #expect(machine.acting == .adaptive)
    #expect(effects.contains { if case .limitCPU = $0 { true } else { false } })
    #expect(!effects.contains { $0.isLast })
  }
}
