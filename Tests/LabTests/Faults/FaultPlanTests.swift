import Agent
import Base
import Testing

@testable import Lab

@Suite struct FaultPlanTests {
  @Test func chaosReachesEverything() {
    var random = SplitMix64(seed: 7)
    let plans = (0..<2000).map { _ in FaultPlan.random(using: &random, longestMs: 12_000) }
    for victim in FaultPlan.Victim.allCases {
      for phase in FaultPlan.phases {
        #expect(plans.contains { $0.victim == victim && $0.phase == phase }, "\(phase) \(victim)")
      }
    }
    #expect(plans.allSatisfy { (50...12_000).contains($0.lastsMs) })
    var again = SplitMix64(seed: 7)
    #expect(plans.first == FaultPlan.random(using: &again, longestMs: 12_000))
  }

  @Test func whatMustBeSurvived() {
    func must(_ victim: FaultPlan.Victim, _ phase: MigrationPhase, _ lastsMs: UInt64) -> Bool {
      FaultPlan(phase: phase, victim: victim, lastsMs: lastsMs).mustComplete(patienceMs: 6000)
    }
    #expect(must(.link, .bulk, 2000) && !must(.link, .bulk, 6000))
    #expect(!must(.link, .switchover, 100))
    #expect(must(.slowPeer, .commit, 12_000) && !must(.slowPeer, .prepare, 100))
    #expect(must(.sourceClock, .bulk, 12_000) && !must(.destinationClock, .prepare, 100))
    #expect(must(.sourceDisk, .bulk, 100) && !must(.sourceJournal, .bulk, 100))
    #expect(must(.sourceAgentUpgraded, .bulk, 60_000) && !must(.sourceAgentUpgraded, .bulk, 6000))
    for victim in FaultPlan.Victim.processes { #expect(!must(victim, .bulk, 100)) }
  }

  @Test func sides() {
    let sided = FaultPlan.Victim.allCases.filter { $0.side != nil }
    #expect(sided.count == FaultPlan.Victim.allCases.count - 3)
    #expect(FaultPlan.Victim.sourceAgentUpgraded.side == .source)
    #expect(FaultPlan.Victim.destinationClock.side == .destination)
  }
}
