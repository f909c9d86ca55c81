import Agent
import Base

/// How right the ETA was, for people.
enum EtaReport {
  /// Where in a migration's time the error is shown, in thousandths.
  static let placesPermille: [UInt64] = [100, 250, 500, 750, 900]

  static func table(_ records: [MigrationRecord], started: (Int64) -> String) -> Table {
    var table = Table(
      ["STARTED", "VM", "TIME"] + placesPermille.map { "AT \($0 / 10) %" }
        + ["MEAN", "IN BAND", "NO ETA"])
    for record in records {
      guard let eta = record.eta, let totalMs = record.totalMs else { continue }
      let errors = placesPermille.map { place in
        guard let look = eta.look(atPermille: place, of: totalMs) else { return "-" }
        return look.errorMs.map(signed) ?? "?"
      }
      table.add(
        [
          record.startedAt.map(started) ?? "-", record.vm ?? "-", Milliseconds.format(totalMs),
        ] + errors
          + [eta.meanErrorPermille, eta.withinBandPermille, eta.unknownPermille].map {
            $0.map(percent) ?? "-"
          })
    }
    return table
  }

  /// In one line; nil when there was no ETA to judge.
  static func summary(_ eta: EtaRecord) -> String? {
    guard let error = eta.meanErrorPermille else { return nil }
    let band = eta.withinBandPermille.map { ", within its band \(percent($0)) of the time" } ?? ""
    return "wrong by \(percent(error)) of the whole time on average\(band)"
  }

  /// `+1.2 s`, `-300 ms`.
  static func signed(_ ms: Int64) -> String {
    (ms < 0 ? "-" : "+") + Milliseconds.format(ms.magnitude)
  }

  static func percent(_ permille: UInt64) -> String { "\(permille / 10).\(permille % 10) %" }
}
