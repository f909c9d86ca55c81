import Base
import Strategy
import Testing

@testable import Agent

@Suite struct WaitTests {
  /// The source says nothing while pages are pulled: the destination's own count names the end.
  @Test func theDestinationKnowsThePullsEndAndItsWaits() {
    var state = DestinationMigration.State(
      progress: MigrationProgress(
        id: "1", vm: "v", peer: "p", side: "destination", phase: .pull, strategy: "dsm"))
    // What the source foretold of the pause is over.
    (state.progress.etaMs, state.progress.etaHighMs) = (20, 30)
    for step in 0...10 as ClosedRange<UInt64> {
      state.note(missingPages: 100_000 - step * 2000, nowMs: step * 200)
    }
    #expect(state.progress.remainingBytes == 80_000 * UInt64(Page.size))
    #expect(state.progress.etaMs == 8000 && state.progress.etaHighMs == nil)
    state.note(isConnected: false, nowMs: 2100)
    state.note(missingPages: 80_000, nowMs: 9000)
    #expect(state.progress.etaMs == nil && state.pullEta.waitedMs == 7000)
    #expect(state.wait.waitedMs(nowMs: 9000) == 6900)
    state.note(isConnected: true, nowMs: 9100)
    #expect(state.wait.waitedMs(nowMs: 9100) == nil)
  }
}
