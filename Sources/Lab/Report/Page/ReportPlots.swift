import Agent
import Base

/// A picture of a report.
public struct ReportPlot: Sendable {
  /// Name of its file, without ending.
  public var name: String
  var title: String
  /// What it shows and how to read it.
  var note: String
  var svg: String
  /// Bars: lower than the other pictures, so that they stand together in a page.
  var isLow = false
  /// Wider than the other pictures.
  var isWide = false

  /// The picture as a file of its own.
  public var file: String { SVG.file(svg) }
}

/// The pictures that one guest with one QEMU gives. Pure.
struct ReportPlots {
  let comparison: MatrixComparison
  /// Colours go by method, the same in every picture of a report.
  let colours: [String: Int]

  var slug: String { ReportText.slug("\(comparison.guest)-\(comparison.qemu)") }

  var all: [ReportPlot] {
    [
      bars(.total), bars(.together), bars(.downtime), bars(.wire), bars(.reads), bars(.latency),
      bars(.tail), bars(.processor), bars(.faults), classes, trade, throughput, switchover,
      operations, owed,
    ].compactMap(\.self)
  }

  private func bars(_ figure: MatrixFigure) -> ReportPlot? {
    let unit = unit(figure)
    let rows = comparison.methods.compactMap { method -> BarPlot.Row? in
      guard let estimate = comparison.estimate(figure, method) else { return nil }
      let part = BarPlot.Part(
        name: figure.text(estimate.median), value: estimate.median / unit,
        colour: colours[method] ?? 0)
      guard estimate.median.isFinite else {
        return BarPlot.Row(name: method, parts: [], text: "not done", isOpen: true)
      }
      // An interval that reaches to "never" has no end to draw.
      let isClosed = estimate.high?.isFinite ?? false
      return BarPlot.Row(
        name: method, parts: [part], low: isClosed ? estimate.low.map { $0 / unit } : nil,
        high: isClosed ? estimate.high.map { $0 / unit } : nil, text: figure.text(estimate.median))
    }
    guard rows.contains(where: { !$0.isOpen }) else { return nil }
    let title = ReportText.title(figure)
    return ReportPlot(
      name: "\(slug)-\(figure.rawValue)", title: title,
      note: "Medians, with 95 % intervals from three rounds on. Shorter is better.",
      svg: BarPlot(title: "\(title), \(comparison.guest)", rows: rows) {
        figure.text($0 * unit)
      }.svg, isLow: true)
  }

  /// What an axis has round numbers of: bytes are binary.
  private func unit(_ figure: MatrixFigure) -> Double {
    guard [.wire, .memory, .reads].contains(figure) else { return 1 }
    let most =
      comparison.methods.compactMap { comparison.estimate(figure, $0)?.median }
      .filter(\.isFinite).max() ?? 0
    return most < 1_073_741_824 ? 1_048_576 : 1_073_741_824
  }

  /// What a disk's clients pay for a fast move.
  private var trade: ReportPlot? {
    let points = comparison.methods.compactMap { method -> TradePlot.Point? in
      guard let total = comparison.estimate(.total, method)?.median, total.isFinite,
        let latency = comparison.estimate(.latency, method)?.median
      else { return nil }
      return TradePlot.Point(name: method, x: total, y: latency, colour: colours[method] ?? 0)
    }
    guard points.count > 1 else { return nil }
    return ReportPlot(
      name: "\(slug)-trade", title: "Latency of the clients against the time of the move",
      note: "Medians over all rounds. Nearer to the lower left corner is better in both.",
      svg: TradePlot(
        title: "Latency against time, \(comparison.guest)", xTitle: "time of the move",
        yTitle: "median latency", points: points, xText: MatrixFigure.total.text,
        yText: MatrixFigure.latency.text
      ).svg)
  }

  /// Seconds that curves are drawn for: three times what most methods took, for one that never ends would leave
  /// no room for the others.
  private var horizon: Double {
    let totals = comparison.methods.compactMap { method -> Double? in
      comparison.estimate(.total, method).flatMap { $0.median.isFinite ? $0.median : nil }
    }
    return (Estimate.median(totals) ?? .infinity) * 3 / 1000
  }

  private static let pointsMax = 800

  private var throughput: ReportPlot? {
    let note =
      "In percent of its work before, over five neighbouring points, from the start of the migration on; "
      + Self.typical
    return curves(
      "throughput", title: "Work of the guest while it moves", note: note, yTitle: "% of before",
      level: 100
    ) { result in
      guard let work = result.lab.throughput, work.baselinePerSecond > 0 else { return [] }
      // As many points as can be told apart, however long it took.
      let shown = min(Double(work.timeline.count), horizon * 1000 / Double(work.bucketMs))
      let merged = max(Int(shown) / Self.pointsMax, 1)
      let bucket = Double(work.bucketMs) * Double(merged)
      let full = Double(work.baselinePerSecond) * bucket / 1000
      let values = ReportText.merged(work.timeline.map { Double($0) }, by: merged)
      return ReportText.smoothed(values.map { $0 / full * 100 }).enumerated().map {
        (Double($0) * bucket / 1000, $1)
      }
    }
  }

  private var operations: ReportPlot? {
    // A disk's requests are few: with less at a time the curve would be noise.
    let isDisk = comparison.diskAlone != nil
    let merged = isDisk ? 3 : 1
    let bucket = Double(Trial.operationsBucketMs) * Double(merged)
    let note =
      "Completed per second on all connections, over windows of \(isDisk ? 150 : 50) ms, from the start of the migration on; "
      + Self.typical
    return curves(
      "operations", title: "Operations of the clients while the \(isDisk ? "disk" : "guest") moves",
      note: note,
      yTitle: "per second"
    ) { result in
      let timeline = result.lab.operationsTimeline ?? []
      let counts = ReportText.merged(timeline.map { Double($0) }, by: merged)
      return ReportText.smoothed(counts.map { $0 * 1000 / bucket }).enumerated().map {
        (Double($0) * bucket / 1000, $1)
      }
    }
  }

  private var owed: ReportPlot? {
    curves(
      "owed", title: "Memory that the destination lacks",
      note: "As each method knew it then; " + Self.typical, yTitle: "MiB"
    ) { result in
      let points = result.lab.samples.filter { $0.phase >= .bulk && $0.phase < .done }.map {
        (x: Double($0.elapsedMs) / 1000, y: Double($0.remainingBytes) / 1_048_576)
      }
      // At first nobody has counted yet.
      let known = points.drop { $0.y == 0 }
      return known.count > 2 ? Array(known) : []
    }
  }

  private static let typical = "one typical run of each method. Dashed: QEMU alone."

  /// Curves over the seconds of a typical run of each method; nil where there is nothing to draw.
  ///
  /// - Parameters:
  ///   - name: behind the guest's in the picture's.
  ///   - level: to compare with.
  ///   - points: by rising x, in seconds; none: the run has no curve.
  private func curves(
    _ name: String, title: String, note: String, yTitle: String, level: Double? = nil,
    _ points: (MatrixResult) -> [(x: Double, y: Double)]
  ) -> ReportPlot? {
    let series = comparison.methods.compactMap { method -> LinePlot.Series? in
      guard let result = comparison.typical(method) else { return nil }
      let points = points(result)
      return points.isEmpty ? nil : line(method, points)
    }
    guard !series.isEmpty else { return nil }
    return ReportPlot(
      name: "\(slug)-\(name)", title: title, note: note,
      svg: LinePlot(
        title: "\(title), \(comparison.guest)", xTitle: "seconds", yTitle: yTitle, series: series,
        xText: SVG.number, yText: SVG.number, level: level
      ).svg)
  }

  private func line(_ method: String, _ points: [(x: Double, y: Double)]) -> LinePlot.Series {
    let horizon = horizon
    return LinePlot.Series(
      name: method, colour: colours[method] ?? 0, isRival: MatrixComparison.isRival(method),
      points: points.filter { $0.x <= horizon })
  }

  private var classes: ReportPlot? {
    let rows = comparison.methods.compactMap { method -> BarPlot.Row? in
      guard let result = comparison.typical(method) else { return nil }
      let pages = result.record.pages
      let counts: [(String, UInt64?)] = [
        ("raw", pages.raw), ("compressed", pages.compressed), ("delta", pages.delta),
        ("duplicate", pages.duplicate), ("uniform", pages.uniform), ("disk", pages.disk),
        ("vault", pages.vault), ("snapshot", pages.snapshot), ("gang", pages.gang),
      ]
      let parts = counts.enumerated().map { index, count in
        BarPlot.Part(
          name: count.0, value: Double(count.1 ?? 0) * Double(Page.size) / 1_048_576, colour: index)
      }
      let sum = parts.reduce(0) { $0 + $1.value }
      guard sum > 0 else { return nil }
      let wire = result.record.wireBytes.map { "wire \(ByteCount($0))" } ?? ""
      return BarPlot.Row(name: method, parts: parts, text: wire)
    }
    guard !rows.isEmpty else { return nil }
    return ReportPlot(
      name: "\(slug)-classes", title: "Pages by the form in which they went",
      note:
        "MiB of guest memory, repeats included, zero pages left out; beside each bar what that came to on"
        + " the wire.",
      svg: BarPlot(
        title: "Pages by form, \(comparison.guest)", rows: rows, tickText: SVG.number,
        showsLegend: true
      ).svg, isLow: true)
  }
}

extension ReportPlot {
  /// Forecasts of all migrations against what came; nil when nothing was forecast.
  static func forecasts(_ results: [MatrixResult], _ colours: [String: Int]) -> ReportPlot? {
    let points = results.compactMap { result -> ScatterPlot.Point? in
      let forecast = result.record.forecast
      guard result.isDone, let total = result.record.totalMs, let foretold = forecast.totalMs else {
        return nil
      }
      return ScatterPlot.Point(
        name: result.lab.cell, method: result.lab.method, x: Double(foretold), y: Double(total),
        lowX: forecast.totalLowMs.map { Double($0) },
        highX: forecast.totalHighMs.map { Double($0) },
        colour: colours[result.lab.method] ?? 0)
    }
    guard !points.isEmpty else { return nil }
    return ReportPlot(
      name: "forecasts", title: "Forecast and outcome",
      note: ForecastJudgement(results.map(\.record)).lines.joined(separator: "; ")
        + ". A line is the forecast's band of nine tenths; it should meet the diagonal.",
      svg: ScatterPlot(
        title: "Total time: forecast and outcome", xTitle: "foretold", yTitle: "seen",
        points: points, text: MatrixFigure.total.text
      ).svg)
  }

  /// The pause as it was forecast just before the guest stopped, against the one that came.
  static func pauses(_ results: [MatrixResult], _ colours: [String: Int]) -> ReportPlot? {
    let points = results.compactMap { result -> ScatterPlot.Point? in
      guard result.isDone, let downtime = result.record.downtimeMs,
        let foretold = result.record.forecast.downtimeMs
      else { return nil }
      return ScatterPlot.Point(
        name: result.lab.cell, method: result.lab.method, x: Double(foretold), y: Double(downtime),
        colour: colours[result.lab.method] ?? 0)
    }
    guard !points.isEmpty else { return nil }
    return ReportPlot(
      name: "pauses", title: "Pause: forecast and outcome",
      note: "As forecast just before the guest was stopped. On the diagonal both agree.",
      svg: ScatterPlot(
        title: "Pause: forecast and outcome", xTitle: "foretold", yTitle: "seen", points: points,
        text: MatrixFigure.downtime.text
      ).svg)
  }
}
