import Agent
import Simulator

/// `godwit plan --json`.
struct PlanAnswer: Encodable {
  let vm: String
  let destination: String
  /// `forecast` or `refused`.
  let outcome: String
  /// Why refused, or why `auto` takes what it takes.
  let reason: String?
  let autoTakes: String?
  let guest: GuestSample?
  let link: LinkSample?
  /// Disks that were asked for, and how long their copy takes at the link's rate; nil: none.
  let disks: [PlannedDisk]?
  let diskCopyMs: UInt64?
  let forecast: [ForecastReport.Answer.Row]
  let assumptions: [String]

  init(_ report: PlanReport, _ planned: PlannedForecast?) {
    (vm, destination) = (report.vm, report.destination)
    (guest, link, disks) = (report.guest, report.link, report.disks)
    diskCopyMs = planned?.diskCopyMs
    guard let planned else {
      (outcome, autoTakes, forecast, assumptions) = ("refused", nil, [], [])
      reason = report.refusals.map(\.description).joined(separator: "\n")
      return
    }
    let answer = ForecastReport.Answer(planned.forecast)
    let refusal = planned.forecast.rows.compactMap(\.refusal).first
    outcome = planned.isRefused ? "refused" : "forecast"
    reason = planned.isRefused ? refusal : answer.reason
    (autoTakes, forecast, assumptions) = (answer.autoTakes, answer.forecast, answer.assumptions)
  }

  private enum CodingKeys: CodingKey {
    case vm, destination, outcome, reason, autoTakes, guest, link, disks, diskCopyMs, forecast,
      assumptions
  }

  /// Written out, so that what is unknown is null.
  func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(vm, forKey: .vm)
    try fields.encode(destination, forKey: .destination)
    try fields.encode(outcome, forKey: .outcome)
    try fields.encode(reason, forKey: .reason)
    try fields.encode(autoTakes, forKey: .autoTakes)
    try fields.encode(guest, forKey: .guest)
    try fields.encode(link, forKey: .link)
    try fields.encode(disks, forKey: .disks)
    try fields.encode(diskCopyMs, forKey: .diskCopyMs)
    try fields.encode(forecast, forKey: .forecast)
    try fields.encode(assumptions, forKey: .assumptions)
  }
}
