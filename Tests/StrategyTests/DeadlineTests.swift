import Base
import Strategy
import Testing

@Suite struct DeadlineTests {
  private func first(
    _ atDeadline: DeadlineAction, canPull: Bool = false,
    rate: UInt64? = Samples.pagesPerMs * 4_096_000
  ) -> (effect: EngineEffect?, atMs: UInt64) {
    let constraints = MigrationConstraints(withinMs: 10_000, atDeadline: atDeadline)
    var machine = StrategyName.precopy.makeMachine(constraints, .small(canPull: canPull))
    var samples = Samples(rate: rate)
    samples.sample.dirtyOwedByHeat[8] = 100_000  // 1,000 ms
    samples.sample.lastEpoch = EpochReport(
      number: 1, beganMs: 0, endedMs: 0, dirtiedPages: 100_000, newlyOwedPages: 0)
    for _ in 0..<400 {
      let sample = samples.later(50)
      if let last = machine.handle(sample).first(where: \.isLast) { return (last, sample.nowMs) }
    }
    return (nil, 0)
  }

  @Test func actsEarlyEnoughForThePause() {
    // 1,050 ms of pause, an eighth and 250 ms of margin.
    #expect(first(.stop) == (.stop(.deadline), 8_600))
    #expect(first(.postcopy, canPull: true) == (.pull(.deadline), 9_700))
    #expect(first(.postcopy, canPull: false) == (.stop(.deadline), 8_600))
    let (effect, atMs) = first(.abort)
    #expect(effect == .abandon("--within is about to run out") && atMs == 9_450)
  }

  /// A link that stalls for a third of a second is not believed to stay so; one that stays so is.
  @Test func aMomentsStallStopsNobody() {
    func stoppedMs(stallMs: UInt64) -> UInt64 {
      var machine = StrategyName.precopy.makeMachine(
        MigrationConstraints(withinMs: 10_000), .small())
      var samples = Samples(fresh: 20_000)
      samples.sample.dirtyOwedByHeat[8] = 230_000  // 2,300 ms
      samples.sample.lastEpoch = EpochReport(
        number: 1, beganMs: 0, endedMs: 0, dirtiedPages: 230_000, newlyOwedPages: 0)
      while samples.sample.nowMs < 20_000 {
        let isSlow = (1000..<(1000 + stallMs)).contains(samples.sample.nowMs)
        let pagesPerMs = isSlow ? Samples.pagesPerMs / 3 : Samples.pagesPerMs
        let sample = samples.later(25) {
          $0.wireRate = ByteRate(bytesPerSecond: pagesPerMs * 4_096_000)
        }
        if machine.handle(sample).contains(.stop(.deadline)) { break }
      }
      return samples.sample.nowMs
    }
    #expect(stoppedMs(stallMs: 0) > 6_000)
    #expect(stoppedMs(stallMs: 400) == stoppedMs(stallMs: 0))
    #expect((1_500...2_100).contains(stoppedMs(stallMs: 100_000)))
  }

  /// Before the first epoch all that was sent may be dirty again, or as much as a sample said.
  @Test(arguments: [(nil, 6_750), (20_000, 9_250), (0, 9_475)] as [(UInt64?, UInt64)])
  func beforeTheFirstEpochTheWorstIsTakenFor(workingSet: UInt64?, actsAtMs: UInt64) {
    var facts = EngineFacts.small()
    facts.dirtyBound = workingSet.map {
      DirtyBound(lengthMs: 500, pages: $0, newPages: 0, newMs: 250)
    }
    let constraints = MigrationConstraints(withinMs: 10_000)
    var machine = StrategyName.precopy.makeMachine(constraints, facts)
    var samples = Samples(fresh: 20_000)
    samples.sample.isCollecting = true
    var stoppedMs: UInt64?
    while stoppedMs == nil, samples.sample.nowMs < 20_000 {
      if machine.handle(samples.later(25)).contains(.stop(.deadline)) {
        stoppedMs = samples.sample.nowMs
      }
    }
    #expect(stoppedMs == actsAtMs)
  }

  /// A guest that keeps finding new pages is stopped the earlier, the later it is.
  @Test func theSampleIsExtrapolated() {
    func stoppedMs(newPages: UInt64, ram: UInt64 = 100_000) -> UInt64 {
      var facts = EngineFacts.small()
      facts.dirtyBound = DirtyBound(lengthMs: 500, pages: 1000, newPages: newPages, newMs: 250)
      var machine = StrategyName.precopy.makeMachine(MigrationConstraints(withinMs: 10_000), facts)
      var samples = Samples(fresh: 20_000)
      samples.sample.isCollecting = true
      while samples.sample.nowMs < 20_000 {
        if machine.handle(samples.later(25)).contains(.stop(.deadline)) { break }
      }
      return samples.sample.nowMs
    }
    let (still, slow, fast) = (
      stoppedMs(newPages: 0), stoppedMs(newPages: 100), stoppedMs(newPages: 9000)
    )
    #expect(still > slow && slow > fast, "\(still) \(slow) \(fast)")
    // All that was sent at most: as without a sample.
    #expect(fast == 6_750)
  }

  @Test func nobodyIsStoppedIntoALinkThatStandsStill() {
    let (effect, atMs) = first(.stop, rate: nil)
    guard case .abandon? = effect else {
      Issue.record("\(String(describing: effect))")
      return
    }
    #expect(atMs < 10_000)
  }

  /// What the strategy itself would do too late is done the user's way.
  @Test(arguments: [
    (DeadlineAction.abort, EngineEffect.abandon("the pause would end after --within")),
    (.postcopy, .pull(.deadline)), (.stop, .stop(.deadline)),
  ]) func aStopThatWouldBeLate(action: DeadlineAction, expected: EngineEffect) {
    let constraints = MigrationConstraints(withinMs: 10_000, atDeadline: action)
    var machine = StrategyName.timebound.makeMachine(constraints, .small(canPull: true))
    var samples = Samples(fresh: 1000)
    _ = machine.handle(samples.epoch(8_900, dirtied: 200_000, owed: [8: 200_000]))
    var samplesAtEnd = samples
    let sample = samplesAtEnd.later(50) { $0.freshPages = 0 }
    #expect(machine.handle(sample).contains(expected))
  }

  @Test func underADeadlineTheDirtyLogIsReadEachSecond() {
    let constraints = MigrationConstraints(withinMs: 100_000)
    var machine = StrategyName.precopy.makeMachine(constraints, .small())
    var samples = Samples(fresh: 200_000)
    var asked = 0
    for step in 0..<100 {
      if machine.handle(samples.later(50)).contains(.collect) {
        asked += 1
        _ = samples.epoch(5, dirtied: 1, owed: [:])
      }
      #expect(asked <= step / 20 + 1)
    }
    #expect(asked == 5)
  }

  @Test(arguments: StrategyName.allCases) func patienceEndsWhatNeverWould(name: StrategyName) {
    for rate in [nil, 1, 400_000_000] as [UInt64?] {
      var machine = name.makeMachine(MigrationConstraints(), .small())
      var samples = Samples(fresh: 1000, rate: rate)
      var isOver = false
      for _ in 0..<200_000 where !isOver {
        let sample = samples.later(rate == 1 ? 1 << 30 : 50) { $0.inFlightBytes = 1 << 40 }
        isOver = machine.handle(sample).contains { $0.isLast }
      }
      #expect(isOver, "\(name) at \(String(describing: rate))")
    }
  }

  @Test func aStartThatCannotBeInTimeIsRefusedWithTheForecast() throws {
    let rate = try #require(ByteRate(bytesPerSecond: 125_000_000))
    func forecast(
      _ withinMs: UInt64, _ atDeadline: DeadlineAction, _ name: StrategyName = .precopy,
      elapsedMs: UInt64 = 0, arrivedBytes: UInt64 = 0
    ) -> StartForecast {
      StartForecast(
        name, MigrationConstraints(withinMs: withinMs, atDeadline: atDeadline),
        .small(canPull: true), rate: rate, wireBytesPerPage: 4096, elapsedMs: elapsedMs,
        arrivedBytes: arrivedBytes)
    }
    // 8,590 ms for 1 GiB, 50 of overhead, an eighth, 250.
    #expect(forecast(9_970, .stop).isPossible && forecast(9_970, .stop).refusal == nil)
    #expect(!forecast(9_969, .stop).isPossible)
    #expect(forecast(9_969, .abort).refusal?.contains("9.97 s") == true)
    #expect(forecast(500, .postcopy).isPossible)
    // What went by counts, and what has arrived: 125 MB in a second, at the margin of an eighth.
    #expect(!forecast(10_000, .stop, elapsedMs: 31).isPossible)
    #expect(forecast(10_000, .stop, elapsedMs: 30).isPossible)
    #expect(forecast(10_000, .stop, elapsedMs: 1100, arrivedBytes: 125_000_000).isPossible)
    #expect(!forecast(500, .postcopy, elapsedMs: 300).isPossible)
    #expect(forecast(9_000, .stop, elapsedMs: 60).refusal?.contains("60 ms have gone by") == true)
    // These pull of their own accord, unless the user wants it given up.
    for name in [.dsm, .auto] as [StrategyName] {
      #expect(forecast(500, .stop, name).isPossible && !forecast(500, .abort, name).isPossible)
    }
    #expect(!forecast(500, .stop, .timebound).isPossible)
  }

  /// 100 MB/s and 1 GB: 10 s, and 306 ms for the guest itself.
  @Test func disksThatCannotBeInTimeAreRefused() {
    func verdict(
      _ withinMs: UInt64, writes: UInt64 = 0, stallsAfterMs: UInt64 = .max,
      takenBytes: UInt64? = 1_000_000_000 + 2 << 20
    ) -> (DiskDeadline.Verdict, UInt64) {
      var deadline = DiskDeadline(withinMs: withinMs, takenBytes: takenBytes)
      for ms in stride(from: 500, through: 60_000 as UInt64, by: 100) {
        let busyMs = min(ms - 500, stallsAfterMs)
        let owed = (1_000_000_000 + busyMs * writes).minusFloored(busyMs * 100_000)
        let verdict = deadline.look(
          elapsedMs: ms, owedBytes: owed, sentBytes: 2 << 20 + busyMs * 100_000)
        if verdict != .goOn || owed == 0 { return (verdict, ms) }
      }
      return (.goOn, 60_000)
    }
    let (kept, _) = verdict(11_000)
    #expect(kept == .goOn)
    let (refused, atMs) = verdict(10_700)
    guard case .refuse(let text) = refused else {
      Issue.record("\(refused)")
      return
    }
    #expect(atMs == 2_500 && text.contains("8 s") && text.contains("10.7 s"), "\(text)")
    // A guest that writes half as fast: what is left looks possible, and then the time is over.
    let (late, lateMs) = verdict(13_000, writes: 50_000)
    guard case .abandon = late else {
      Issue.record("\(late)")
      return
    }
    #expect((12_600...12_800).contains(lateMs))
    // Holes may lie ahead, and what a disk holds may not be known: only time tells.
    guard case .abandon = verdict(10_700, takenBytes: 300 << 20).0,
      case .abandon = verdict(10_700, takenBytes: nil).0
    else {
      Issue.record("refused for holes")
      return
    }
    // A link that goes away is no rate.
    guard case .abandon = verdict(13_000, stallsAfterMs: 3_000).0,
      case .abandon = verdict(13_000, stallsAfterMs: 0).0
    else {
      Issue.record("copies that stand still")
      return
    }
  }

  /// Whatever samples say, nothing traps, and a strategy asks for no epoch while one is being read.
  @Test(arguments: UInt64(1)...100) func nonsenseIsTaken(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    for name in StrategyName.allCases {
      let constraints = MigrationConstraints(
        withinMs: random.next() & 1 == 0 ? nil : random.next() >> 8,
        maxThrottlePercent: random.next() % 120,
        throttleForm: ThrottleForm.allCases[Int(random.next() % 3)])
      let facts = EngineFacts(
        ramPages: random.next() >> (random.next() % 64), vcpuCount: random.next() % 5,
        hostCores: random.next() >> (random.next() % 64), canLimitCPU: true)
      var machine = name.makeMachine(constraints, facts)
      for _ in 0..<40 {
        func wild() -> UInt64 { random.next() >> (random.next() % 64) }
        var sample = EngineSample(
          nowMs: wild(), beganMs: wild(), freshPages: random.next() & 1 == 0 ? 0 : wild())
        sample.dirtyOwedByHeat = (0...8).map { _ in wild() }
        (sample.sentPages, sample.supersededPages) = (wild(), wild())
        (sample.wireBytesPerPage, sample.inFlightBytes) = (wild(), wild())
        sample.wireRate = ByteRate(bytesPerSecond: wild())
        sample.isCollecting = random.next() % 4 == 0
        sample.lastEpoch = EpochReport(
          number: wild(), beganMs: wild(), endedMs: wild(), dirtiedPages: wild(),
          firstDirtiedPages: wild())
        let effects = machine.handle(sample)
        #expect(!sample.isCollecting || !effects.contains(.collect), "\(name), seed \(seed)")
      }
    }
  }
}
