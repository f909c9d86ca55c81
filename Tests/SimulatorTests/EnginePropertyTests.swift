import Strategy
import Testing

@testable import Simulator

/// Random guests, links and wishes: every strategy ends, in time or refused, slows the guest down no more
/// than allowed, and delivers each page's last version.
@Suite struct EnginePropertyTests {
  @Test(arguments: StrategyName.allCases) func pageByPage(name: StrategyName) {
    for seed in 1...5 as ClosedRange<UInt64> {
      let outcome = Simulation.runExact(RandomSetups.small(seed: seed, strategy: name), seed: seed)
      #expect(outcome.violation == nil, "\(name), seed \(seed): \(outcome.end)")
    }
  }

  @Test(arguments: StrategyName.allCases) func inCounts(name: StrategyName) {
    for seed in 1...30 as ClosedRange<UInt64> {
      let outcome = Simulation.run(RandomSetups.small(seed: seed, strategy: name), seed: seed)
      #expect(outcome.violation == nil, "\(name), seed \(seed): \(outcome.end)")
    }
  }

  /// The checks see what they are for: a ledger that forgets an epoch loses pages.
  @Test func aForgottenEpochIsFound() {
    let setup = SimulationSetup(
      .timebound, GuestModel(groups: [PageGroup(pages: 2000, writesPerSecond: 500)]),
      LinkModel(bytesPerSecond: 4e6))
    var forgetful = Forgetful(inner: ExactMemory(setup.guest))
    forgetful.forgets = 2
    let outcome = Simulation.run(setup, seed: 1, memory: forgetful)
    #expect(outcome.violation?.contains("are not what they were") == true)
    #expect(Simulation.runExact(setup, seed: 1).violation == nil)
  }
}

/// Drops what one look at the dirty bitmap found.
private struct Forgetful: SimulatedMemory {
  var inner: ExactMemory
  var forgets = 0
  private var looks = 0

  init(inner: ExactMemory) { self.inner = inner }

  var freshPages: Double { inner.freshPages }
  var owedByHeat: [Double] { inner.owedByHeat }
  var sentPages: Double { inner.sentPages }
  var supersededPages: Double { inner.supersededPages }
  var sentZeroPages: Double { inner.sentZeroPages }
  var sentBytes: Double { inner.sentBytes }
  var owedBytes: Double { inner.owedBytes }
  var invalidByGroup: [Double] { inner.invalidByGroup }

  mutating func run(ms: Double, atMs: Double, speed: Double, noise: inout Noise) {
    inner.run(ms: ms, atMs: atMs, speed: speed, noise: &noise)
  }
  mutating func beginCollect(noise: inout Noise) -> (dirtied: Double, first: Double) {
    let found = inner.beginCollect(noise: &noise)
    looks += 1
    return looks == forgets ? inner.beginCollect(noise: &noise) : found
  }
  mutating func finishCollect() -> Double { inner.finishCollect() }
  mutating func send(
    bytes: Double, scanPermille: UInt64, holdFrom heat: UInt8, noise: inout Noise
  ) -> Double {
    inner.send(bytes: bytes, scanPermille: scanPermille, holdFrom: heat, noise: &noise)
  }
  func violation(isFinished: Bool) -> String? { inner.violation(isFinished: isFinished) }
}
