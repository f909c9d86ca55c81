import Agent
import Testing

@testable import Lab

@Suite struct ForecastJudgementTests {
  static func record(
    total: UInt64?, forecast: UInt64?, band: ClosedRange<UInt64> = 0...0
  ) -> MigrationRecord {
    var record = MigrationRecord(outcome: total == nil ? .failed : .completed)
    record.totalMs = total
    guard let forecast else { return record }
    (record.forecast.totalMs, record.forecast.totalLowMs) = (forecast, band.lowerBound)
    record.forecast.totalHighMs = band.upperBound
    return record
  }

  @Test func totalsAreHeldAgainstTheirBands() throws {
    let judgement = ForecastJudgement([
      Self.record(total: 1000, forecast: 1100, band: 900...1300),
      Self.record(total: 1000, forecast: 500, band: 400...600),
      Self.record(total: 2000, forecast: 2000, band: 2000...2000),
      // Not forecast, and forecast but never done.
      Self.record(total: 1000, forecast: nil),
      Self.record(total: nil, forecast: 1000, band: 1...2000),
    ])
    #expect(judgement.count == 3 && judgement.withinBand == 2)
    let error = try #require(judgement.medianTotalError)
    #expect(abs(error - 0.1) < 1e-9)
    #expect(judgement.medianPauseError == nil)
    #expect(
      judgement.lines == [
        "forecasts: 2 of 3 totals within their band of nine tenths, median error 10 %"
      ])
  }

  @Test func pausesAreJudgedWithoutAForecastBeforehand() {
    var record = Self.record(total: 1000, forecast: nil)
    (record.downtimeMs, record.forecast.downtimeMs) = (200, 150)
    let judgement = ForecastJudgement([record])
    #expect(judgement.medianPauseError == 0.25 && judgement.count == 0)
    #expect(ForecastJudgement([]).lines.isEmpty)
  }

  @Test func promisesAreKeptOrNot() {
    let records = [(900, 1000), (1001, 1000), (nil, 1000), (5000, nil)].map {
      (total: UInt64?, within: UInt64?) in
      var record = Self.record(total: total, forecast: nil)
      record.withinMs = within
      return record
    }
    var refused = MigrationRecord(outcome: .refused)
    refused.withinMs = 100
    let judgement = ForecastJudgement(records + [refused])
    #expect(judgement.keptBounds == 1 && judgement.boundedCount == 3)
    #expect(judgement.lines == ["bounds: 1 of 3 migrations ended within the time given"])
  }

  @Test func whatWasAnnouncedIsHeldAgainstTheTotal() throws {
    let records = [(600, 1000), (1050, 1000), (1051, 1000), (nil, 1000), (5000, nil)].map {
      (total: UInt64?, bound: UInt64?) in
      var record = Self.record(total: total, forecast: nil)
      record.boundMs = bound
      return record
    }
    let judgement = ForecastJudgement(records)
    #expect(judgement.announcedCount == 4 && judgement.keptAnnounced == 2)
    #expect(
      judgement.lines == [
        "announced bounds: 2 of 4 migrations ended within 1.05 x, total / bound at most 1.05"
      ])
  }
}
