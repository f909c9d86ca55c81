import Base
import Halving
import Strategy
import Testing

@testable import Simulator

/// The strategy of `Examples/`, as its author would test it: by hand, and in the simulator.
@Suite struct HalvingTests {
  /// Added as a program does it, once.
  static let name: StrategyName? = {
    try? StrategyCatalog.add("halving") { Halving($0, $1, $2) }
    return StrategyName(rawValue: "halving")
  }()

  /// The end of a round that took `ms` and left so many pages; 300 ms hold 25,000 of them.
  private func roundEnd(
    _ machine: inout Halving, _ sample: inout EngineSample, ms: UInt64, left: UInt64
  )
    -> [EngineEffect]
  {
    let beganMs = sample.nowMs
    sample.nowMs += ms
    sample.lastEpoch = EpochReport(
      number: (sample.lastEpoch?.number ?? 0) + 1, beganMs: beganMs, endedMs: sample.nowMs,
      dirtiedPages: left)
    sample.dirtyOwedByHeat[1] = left
    return machine.handle(sample)
  }

  private func machine() throws -> (Halving, EngineSample) {
    var sample = EngineSample(nowMs: 4000, beganMs: 0, freshPages: 0)
    sample.wireRate = ByteRate(bytesPerSecond: 100 * 4096 * 1000)
    let name = try #require(Self.name)
    return (Halving(name, MigrationConstraints(), EngineFacts(ramPages: 1 << 18)), sample)
  }

  @Test func itGoesOnAsLongAsRoundsHalve() throws {
    var (machine, sample) = try machine()
    #expect(roundEnd(&machine, &sample, ms: 1000, left: 120_000) == [])
    #expect(roundEnd(&machine, &sample, ms: 1000, left: 60_000) == [])
    #expect(roundEnd(&machine, &sample, ms: 1000, left: 30_001) == [.stop(.noGain)])
  }

  @Test func itStopsWhenThePauseFits() throws {
    var (machine, sample) = try machine()
    #expect(roundEnd(&machine, &sample, ms: 1000, left: 60_000) == [])
    #expect(roundEnd(&machine, &sample, ms: 1000, left: 25_000) == [.stop(.fits)])
  }

  @Test func aRoundLongerThanTheScanIsTheLast() throws {
    var (machine, sample) = try machine()
    #expect(roundEnd(&machine, &sample, ms: 1000, left: 200_000) == [])
    #expect(roundEnd(&machine, &sample, ms: 5001, left: 50_000) == [.stop(.noGain)])
  }

  /// What every strategy must do in the simulator: end, keep its promises, lose nothing.
  @Test func itKeepsTheRules() throws {
    let name = try #require(Self.name)
    #expect(StrategyName.allCases.contains(name) && "\(name)" == "halving")
    for seed in 1...30 as ClosedRange<UInt64> {
      let counted = Simulation.run(RandomSetups.small(seed: seed, strategy: name), seed: seed)
      #expect(counted.violation == nil, "seed \(seed): \(counted.end)")
    }
    for seed in 1...3 as ClosedRange<UInt64> {
      let exact = Simulation.runExact(RandomSetups.small(seed: seed, strategy: name), seed: seed)
      #expect(exact.violation == nil, "seed \(seed): \(exact.end)")
    }
  }

  /// A guest that writes faster than the link carries: plain rounds never end, these do.
  @Test func itEndsWherePlainRoundsDoNot() throws {
    let guest = GuestModel.uniform(
      .init(ram: .mebibytes(768)), workingSet: .mebibytes(200), pagesPerSecond: 50_000)
    let link = LinkModel(bytesPerSecond: 125e6)
    let plain = Simulation.run(SimulationSetup(.precopy, guest, link), seed: 1)
    #expect(!plain.isCompleted)
    let own = Simulation.run(SimulationSetup(try #require(Self.name), guest, link), seed: 1)
    #expect(own.end == .completed(.noGain))
    #expect(own.totalMs < 20_000)
  }

  @Test func namesAreNamesAndTakenOnce() {
    #expect(throws: StrategyCatalog.Refusal.nameIsTaken("auto")) {
      try StrategyCatalog.add("auto") { Halving($0, $1, $2) }
    }
    _ = Self.name
    #expect(throws: StrategyCatalog.Refusal.nameIsTaken("halving")) {
      try StrategyCatalog.add("halving") { Halving($0, $1, $2) }
    }
    for text in ["", "Halving", "a b", "a/b", "ä"] {
      #expect(throws: StrategyCatalog.Refusal.notAName(text)) {
        try StrategyCatalog.add(text) { Halving($0, $1, $2) }
      }
    }
    #expect(StrategyName(rawValue: "quartering") == nil)
  }
}
