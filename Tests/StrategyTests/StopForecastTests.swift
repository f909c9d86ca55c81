import Base
import Testing

@testable import Strategy

/// 1000 pages a second go over the link; 600 are owed, and the guest dirties 100 in a second, all of them clean before.
@Suite struct StopForecastTests {
  static let facts = EngineFacts(ramPages: 10_000, pauseOverheadMs: 50)

  private func sample(sinceEpochMs: UInt64 = 0, dirtiedPages: UInt64 = 100) -> EngineSample {
    var sample = EngineSample(nowMs: 5000 + sinceEpochMs, beganMs: 0, freshPages: 0)
    sample.dirtyOwedByHeat[1] = 600
    sample.wireRate = ByteRate(bytesPerSecond: 4_096_000)
    sample.lastEpoch = EpochReport(
      number: 1, beganMs: 4000, endedMs: 5000, dirtiedPages: dirtiedPages)
    return sample
  }

  @Test func aGuestThatStopsAtOnce() {
    let forecast = StopForecast(sample(), Self.facts)
    #expect(forecast.pages == 600 && forecast.downtimeMs == 650)
    // What it dirtied since the log was read is owed, too.
    #expect(StopForecast(sample(sinceEpochMs: 500), Self.facts).pages == 650)
  }

  /// The destination takes what it has while the rest is on its way: the longer of the two counts.
  @Test func aDestinationThatIsBehind() {
    var behind = sample()
    for (applyingMs, expected) in [(100, 650), (600, 650), (900, 950)] as [(UInt64, UInt64)] {
      behind.applyingMs = applyingMs
      #expect(StopForecast(behind, Self.facts).downtimeMs == expected)
    }
    #expect(StopForecast(behind, Self.facts, delayMs: 800).downtimeMs == 150)
    #expect(StopForecast(pulling: behind, Self.facts).downtimeMs == 950)
  }

  @Test func aGuestThatStopsLater() {
    // 200 pages are sent until then, and 20 dirtied.
    let forecast = StopForecast(sample(), Self.facts, delayMs: 200)
    #expect(forecast.pages == 420 && forecast.downtimeMs == 470)
    // One that dirties faster than the link carries owes more then.
    let busy = StopForecast(sample(dirtiedPages: 3000), Self.facts, delayMs: 200)
    #expect(busy.pages == 1000)
    // There is an end to what can be sent, and without a rate nothing is.
    #expect(StopForecast(sample(), Self.facts, delayMs: .max).pages == 0)
    var unknown = sample()
    unknown.wireRate = nil
    let later = StopForecast(unknown, Self.facts, delayMs: 200)
    #expect(later.pages == 620 && later.downtimeMs == nil)
  }
}
