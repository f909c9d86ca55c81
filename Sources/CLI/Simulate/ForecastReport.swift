import Agent
import Base
import Simulator
import Strategy

/// A forecast, for people and for programs: what `godwit plan` and `godwit simulate forecast` print.
enum ForecastReport {
  static func lines(_ forecast: MigrationForecast) -> [String] {
    var table = Table([
      "STRATEGY", "TOTAL", "DOWNTIME", "ON THE WIRE", "GUEST LOST", "ENDS", "KEEPS ALL", "TAKES",
    ])
    for row in forecast.rows {
      table.add([
        row.strategy.rawValue, SimulationReport.time(row.totalMs),
        SimulationReport.time(row.downtimeMs), SimulationReport.size(row.wireBytes),
        row.slowdown.map { SimulationReport.percent($0.median) } ?? "-",
        SimulationReport.percent(row.completes), SimulationReport.percent(row.meets),
        row.acting == row.strategy ? "-" : row.acting.rawValue,
      ])
    }
    var lines = table.lines
    if let refusal = forecast.rows.compactMap(\.refusal).first {
      lines.append("refused: \(refusal)")
    } else if let auto = forecast.rows.first(where: { $0.strategy == .auto }) {
      let why = forecast.reason.map { ": \($0)" } ?? ""
      lines.append("auto would take \(auto.acting.rawValue)\(TerminalText.plain(why))")
    }
    return lines + forecast.assumptions.map { "assumed: \($0)" }
  }

  struct Answer: Encodable {
    struct Row: Encodable {
      let strategy: String
      let acting: String
      @OrNull var totalMs: SimulationReport.BandAnswer?
      @OrNull var downtimeMs: SimulationReport.BandAnswer?
      @OrNull var wireBytes: SimulationReport.BandAnswer?
      @OrNull var guestSlowdown: SimulationReport.BandAnswer?
      let completes: Double
      let meetsConstraints: Double
      @OrNull var refusal: String?
    }
    let forecast: [Row]
    @OrNull var autoTakes: String?
    @OrNull var reason: String?
    let assumptions: [String]

    init(_ forecast: MigrationForecast) {
      self.forecast = forecast.rows.map {
        Row(
          strategy: $0.strategy.rawValue, acting: $0.acting.rawValue, totalMs: .init($0.totalMs),
          downtimeMs: .init($0.downtimeMs), wireBytes: .init($0.wireBytes),
          guestSlowdown: .init($0.slowdown), completes: $0.completes, meetsConstraints: $0.meets,
          refusal: $0.refusal)
      }
      autoTakes = forecast.rows.first { $0.strategy == .auto && $0.refusal == nil }?.acting.rawValue
      (reason, assumptions) = (forecast.reason, forecast.assumptions)
    }
  }
}
