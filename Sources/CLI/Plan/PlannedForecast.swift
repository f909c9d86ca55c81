import Agent
import Simulator
import Strategy

/// A forecast from what an agent found out, with what it rests on.
struct PlannedForecast {
  let report: PlanReport
  let guest: GuestSample
  let link: LinkSample
  let forecast: MigrationForecast
  /// What the model said of total times, before earlier outcomes were put in, in milliseconds.
  let modelTotals: [StrategyName: Double]
  /// What pages take of processors.
  let costs: ProcessorCosts
  /// How long the disks take at the link's rate, before the memory; nil: none was asked for.
  let diskCopyMs: UInt64?

  /// - Throws: `ControlError` when the agent found out too little.
  init(
    _ report: PlanReport, _ request: MigrationRequest, strategies: [StrategyName], runs: Int,
    seed: UInt64
  ) throws(ControlError) {
    guard let guest = report.guest, let link = report.link, guest.ramPages > 0 else {
      throw ControlError(.failed, "the agent could measure neither guest nor link")
    }
    (self.report, self.guest, self.link) = (report, guest, link)
    var profile = GuestProfile(guest, vcpuCount: report.vcpuCount)
    let rate = min(link.bytesPerSecond, request.bandwidthBytesPerSecond ?? .max)
    let costs = ProcessorCosts(report, guest, bytesPerSecond: Double(rate))
    self.costs = costs
    var way: PackedWay?
    if request.compaction != .off {
      way = profile.apply(costs, guest, request, rate: Double(rate))
    }
    var setup = SimulationSetup(
      .auto, profile.model,
      LinkModel(
        bytesPerSecond: Double(rate), latencyMs: Double(link.roundTripUs) / 2000,
        lanes: UInt64(request.laneCount)), request.constraints)
    setup.canPull = report.canPull
    // Where the agent can't read the guest's memory, pages come with QEMU's stream alone.
    let comesWithStream = guest.source == .qemu || request.pageSource == .inline
    setup.penBytes = comesWithStream ? SimulationSetup.usualPenBytes : nil
    setup.hostCores = report.hostCores
    setup.dirtyBound = DirtyBound(guest)
    setup.writePhases = profile.writePhases
    let diskMs = report.diskBytes.multipliedFullWidth(by: 1000)
    let copyMs = rate > diskMs.high ? rate.dividingFullWidth(diskMs).quotient : .max
    diskCopyMs = report.disks == nil ? nil : copyMs
    setup.startMs = Self.startMs + Double(diskCopyMs ?? 0)
    var forecast = MigrationForecast(
      setup, strategies: strategies,
      runs: runs, seed: seed, spread: profile.spread)
    forecast.assumptions += Self.assumptions(
      report, guest, costs, request, way: way)
    modelTotals = forecast.rows.reduce(into: [:]) { $0[$1.strategy] = $1.totalMs?.median }
    for index in forecast.rows.indices {
      let calibration = ForecastCalibration(report.earlier, of: forecast.rows[index].strategy)
      forecast.rows[index].totalMs = forecast.rows[index].totalMs.map(calibration.apply)
    }
    forecast.assumptions.append(Self.experience(report))
    self.forecast = forecast
  }

  /// No strategy would begin.
  var isRefused: Bool {
    forecast.rows.allSatisfy { $0.refusal != nil }
  }

  /// Starting QEMU at the destination and opening connections, in milliseconds.
  static let startMs = 250.0
  /// What a pause costs beside its pages, in milliseconds.
  static let pauseMs = 50.0
}

extension PlanReport {
  /// What would be copied of disks, in bytes.
  fileprivate var diskBytes: UInt64 {
    (disks ?? []).filter { !$0.isShared }.reduce(0) { sum, disk in
      let (total, overflow) = sum.addingReportingOverflow(disk.takenBytes ?? disk.bytes)
      return overflow ? .max : total
    }
  }
}

extension GuestProfile {
  /// - Parameter sample: of a guest with at least one page.
  init(_ sample: GuestSample, vcpuCount: UInt64) {
    self.init(
      ramPages: sample.ramPages,
      zeroPermille: (sample.zeroPages?.pages ?? 0).multipliedReportingOverflow(by: 1000)
        .partialValue / max(sample.ramPages, 1),
      vcpuCount: vcpuCount,
      dirtyCurve: sample.dirtyCurve.map {
        Point(windowMs: $0.windowMs, pages: min($0.dirtied.pages, sample.ramPages))
      })
    if let phases = sample.phases, let first = phases.first {
      writePhases = WritePhases(
        phases.map {
          WritePhases.Window(
            pages: $0.dirtied.pages, lowPages: $0.dirtied.lowPages, highPages: $0.dirtied.highPages)
        }, windowMs: first.windowMs)
    }
    // A small sample widens the bands.
    if let last = sample.dirtyCurve.last?.dirtied, last.pages > 0 {
      let half = Double(last.highPages - min(last.lowPages, last.highPages)) / 2
      spread = min(max(spread, half / Double(last.pages)), 0.5)
    }
  }
}

extension PastForecast {
  var ratio: Double { Double(actualMs) / Double(modelMs) }
}

extension ForecastCalibration {
  /// From migrations with the same strategy, or with any while those are few.
  init(_ earlier: [PastForecast], of strategy: StrategyName) {
    let same = earlier.filter { $0.strategy == strategy.rawValue }
    self.init((same.count >= 8 ? same : earlier).map(\.ratio))
  }
}

extension DirtyBound {
  /// What the half second's look of a migration would say; nil without two windows as short.
  init?(_ sample: GuestSample) {
    let short = sample.dirtyCurve.filter { $0.windowMs <= 600 }.suffix(2)
    guard short.count == 2, let first = short.first, let last = short.last,
      last.windowMs > first.windowMs
    else { return nil }
    let most = last.dirtied.highPages
    self.init(
      lengthMs: last.windowMs, pages: most, newPages: most - min(first.dirtied.pages, most),
      newMs: last.windowMs - first.windowMs)
  }
}

extension MigrationRecord.Forecast {
  /// What is kept with the outcome of a migration; nil when the strategy isn't forecast to end.
  init?(_ planned: PlannedForecast, _ strategy: StrategyName) {
    guard let row = planned.forecast.rows.first(where: { $0.strategy == strategy }),
      let total = row.totalMs
    else { return nil }
    self.init()
    let rounded = { (value: Double) in UInt64(max(value, 0).rounded()) }
    (totalMs, totalLowMs, totalHighMs) = (
      rounded(total.median), rounded(total.low), rounded(total.high)
    )
    plannedDowntimeMs = row.downtimeMs.map { rounded($0.median) }
    modelTotalMs = planned.modelTotals[strategy].map(rounded)
  }
}
