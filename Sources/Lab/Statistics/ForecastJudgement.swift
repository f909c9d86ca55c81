public import Agent

/// Forecasts and promises held against outcomes (invariant I7).
public struct ForecastJudgement: Sendable, Equatable {
  /// Migrations with a forecast, and how many of their totals lay within its band.
  public var count = 0
  public var withinBand = 0
  /// Errors of the total time relative to what it was, without sign, and the same of the pause as it was
  /// forecast just before the guest stopped; medians, nil without any.
  public var medianTotalError, medianPauseError: Double?
  /// Migrations with `--within` that were not refused, and those whose guest ran at the destination by then. One
  /// that pulls its memory afterwards is left out: its record doesn't say when the guest began to run.
  public var boundedCount = 0
  public var keptBounds = 0
  /// What a total may be more than the bound that the strategy announced at the start.
  static let announcedSlack = 1.05
  /// Migrations whose strategy announced a bound (`timebound`), those whose total was within 1.05 times that, and the
  /// largest ratio of a total to it; nil without any.
  public var announcedCount = 0
  public var keptAnnounced = 0
  public var largestShareOfBound: Double?

  /// Records in any order; those without a forecast or a promise don't count.
  public init(_ records: [MigrationRecord]) {
    var (totals, pauses): ([Double], [Double]) = ([], [])
    for record in records where record.outcome != .refused && record.pull == nil {
      guard let withinMs = record.withinMs else { continue }
      boundedCount += 1
      if record.outcome == .completed, record.totalMs ?? .max <= withinMs { keptBounds += 1 }
    }
    for record in records where record.pull == nil {
      guard let boundMs = record.boundMs, boundMs > 0 else { continue }
      announcedCount += 1
      guard record.outcome == .completed, let total = record.totalMs else { continue }
      let share = Double(total) / Double(boundMs)
      largestShareOfBound = max(largestShareOfBound ?? 0, share)
      if share <= Self.announcedSlack { keptAnnounced += 1 }
    }
    for record in records where record.outcome == .completed {
      if let downtime = record.downtimeMs, let forecast = record.forecast.downtimeMs, downtime > 0 {
        pauses.append(abs(Double(forecast) - Double(downtime)) / Double(downtime))
      }
      guard let total = record.totalMs, total > 0, let forecast = record.forecast.totalMs,
        let low = record.forecast.totalLowMs, let high = record.forecast.totalHighMs
      else { continue }
      count += 1
      if (low...max(low, high)).contains(total) { withinBand += 1 }
      totals.append(abs(Double(forecast) - Double(total)) / Double(total))
    }
    (medianTotalError, medianPauseError) = (Estimate.median(totals), Estimate.median(pauses))
  }
}

extension ForecastJudgement {
  /// For people; empty when nothing was forecast.
  var lines: [String] {
    var lines: [String] = []
    if count > 0, let medianTotalError {
      lines.append(
        "forecasts: \(withinBand) of \(count) totals within their band of nine tenths, median error "
          + Self.percent(medianTotalError))
    }
    if let medianPauseError {
      lines.append(
        "pauses as forecast just before the stop: median error \(Self.percent(medianPauseError))")
    }
    if boundedCount > 0 {
      lines.append(
        "bounds: \(keptBounds) of \(boundedCount) migrations ended within the time given")
    }
    if announcedCount > 0 {
      let largest = largestShareOfBound.map {
        ", total / bound at most \(MatrixTable.hundredths($0))"
      }
      lines.append(
        "announced bounds: \(keptAnnounced) of \(announcedCount) migrations ended within 1.05 x"
          + (largest ?? ""))
    }
    return lines
  }

  private static func percent(_ share: Double) -> String {
    "\(Int(min((share * 100).rounded(), 1e6))) %"
  }
}
