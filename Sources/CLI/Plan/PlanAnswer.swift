import Agent
import Base
import Simulator

/// `godwit plan --json`.
struct PlanAnswer: Encodable {
  let vm: String
  let destination: String
  /// `forecast` or `refused`.
  let outcome: String
  /// Why refused, or why `auto` takes what it takes.
  @OrNull var reason: String?
  @OrNull var autoTakes: String?
  @OrNull var guest: GuestSample?
  @OrNull var link: LinkSample?
  /// What the destination takes for a page that it has, as earlier moves show, in nanoseconds; nil: not known.
  @OrNull var destinationPageNs: UInt64?
  /// Disks that were asked for, and how long their copy takes at the link's rate; nil: none.
  @OrNull var disks: [PlannedDisk]?
  @OrNull var diskCopyMs: UInt64?
  let forecast: [ForecastReport.Answer.Row]
  let assumptions: [String]

  init(_ report: PlanReport, _ planned: PlannedForecast?) {
    (vm, destination) = (report.vm, report.destination)
    (guest, link, disks) = (report.guest, report.link, report.disks)
    diskCopyMs = planned?.diskCopyMs
    destinationPageNs = planned?.costs.destinationNs
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
}
