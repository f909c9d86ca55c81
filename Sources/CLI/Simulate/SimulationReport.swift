import Base
import Simulator
import Strategy

/// What simulated runs came to, for people and for programs.
enum SimulationReport {
  static var table: Table {
    Table([
      "STRATEGY", "ENDED", "TOTAL", "DOWNTIME", "ON THE WIRE", "GUEST LOST", "KEPT", "FORECAST",
      "CHOSE",
    ])
  }

  static func row(_ batch: SimulationBatch) -> [String] {
    let count = batch.outcomes.count
    return [
      batch.setup.strategy.rawValue, percent(Double(batch.completed.count) / Double(max(count, 1))),
      time(batch.totalMs), time(batch.downtimeMs), size(batch.wireBytes),
      batch.slowdown.map { percent($0.median) } ?? "-", percent(batch.meetsConstraints),
      batch.downtimeError.map { signedPercent($0.median) } ?? "-",
      batch.acting == batch.setup.strategy ? "-" : batch.acting.rawValue,
    ]
  }

  /// What `timebound` promises for this guest and link.
  static func bound(_ setup: SimulationSetup) -> String? {
    guard let rate = ByteRate(bytesPerSecond: UInt64(max(setup.link.goodput, 0))) else {
      return nil
    }
    let bound = TimeBound.boundMs(setup.facts, rate: rate, wireBytesPerPage: setup.wireBytesPerPage)
    return "timebound announces \(Milliseconds.format(bound)) at most"
  }

  static func milliseconds(_ value: Double) -> String {
    Milliseconds.format(UInt64(max(value, 0).rounded()))
  }

  /// `5.21 s [4.9 s to 6 s]`.
  static func time(_ band: SimulationBatch.Band?) -> String {
    guard let band else { return "-" }
    return "\(milliseconds(band.median)) [\(milliseconds(band.low)) to \(milliseconds(band.high))]"
  }

  static func size(_ band: SimulationBatch.Band?) -> String {
    band.map { ByteCount(UInt64(max($0.median, 0))).description } ?? "-"
  }

  static func percent(_ share: Double) -> String { "\(Int((share * 100).rounded())) %" }

  static func signedPercent(_ share: Double) -> String {
    let value = Int((share * 100).rounded())
    return value > 0 ? "+\(value) %" : "\(value) %"
  }
}

extension SimulationReport {
  struct BandAnswer: Encodable {
    let low: Double
    let median: Double
    let high: Double

    init?(_ band: SimulationBatch.Band?) {
      guard let band else { return nil }
      // Three digits behind the point are more than a model knows.
      let rounded = { (value: Double) in (value * 1000).rounded() / 1000 }
      (low, median, high) = (rounded(band.low), rounded(band.median), rounded(band.high))
    }
  }

  struct Answer: Encodable {
    let simulation = "run"
    let strategy: String
    let acting: String
    let runs: Int
    let seed: UInt64
    let completed: Int
    let meetsConstraints: Double
    @OrNull var totalMs: BandAnswer?
    @OrNull var downtimeMs: BandAnswer?
    @OrNull var wireBytes: BandAnswer?
    @OrNull var guestLostMs: BandAnswer?
    @OrNull var guestSlowdown: BandAnswer?
    @OrNull var downtimeForecastError: BandAnswer?
    @OrNull var refusal: String?
    let violations: [String]

    init(_ batch: SimulationBatch) {
      (strategy, acting) = (batch.setup.strategy.rawValue, batch.acting.rawValue)
      (runs, seed, completed) = (batch.outcomes.count, batch.firstSeed, batch.completed.count)
      meetsConstraints = batch.meetsConstraints
      (totalMs, downtimeMs) = (BandAnswer(batch.totalMs), BandAnswer(batch.downtimeMs))
      (wireBytes, guestLostMs) = (BandAnswer(batch.wireBytes), BandAnswer(batch.lostMs))
      guestSlowdown = BandAnswer(batch.slowdown)
      downtimeForecastError = BandAnswer(batch.downtimeError)
      refusal = batch.refusal
      violations = batch.violations.map { "seed \($0.seed): \($0.what)" }
    }
  }
}
