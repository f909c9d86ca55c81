import Base

extension ReportPlots {
  /// What is shown of each run, in milliseconds from the guest's stop on.
  private static let switchoverMs = -1000.0...2000.0
  /// More than this in ten milliseconds is cut, in percent of the work before: a busy host gives a guest its time in gulps.
  private static let switchoverHigh = 200.0

  /// The guest's work around its stop, as finely as it was heard; nil where nobody knows when it stopped.
  var switchover: ReportPlot? {
    let strips = comparison.methods.compactMap(strip)
    guard !strips.isEmpty else { return nil }
    let title = "Work of the guest through the switchover"
    return ReportPlot(
      name: "\(slug)-switchover", title: title,
      note:
        "In percent of its work before, each \(GuestThroughput.bucketMs) ms, nothing smoothed, more than"
        + " \(SVG.number(Self.switchoverHigh)) % cut; from the stop on. Grey: no sign of life between source and"
        + " destination. One typical run of each method.",
      svg: StripPlot(
        title: "\(title), \(comparison.guest)", xTitle: "seconds from the stop on",
        range: Self.switchoverMs, ticks: Array(stride(from: -1000, through: 2000, by: 500)),
        bucket: Double(GuestThroughput.bucketMs), high: Self.switchoverHigh, level: 100,
        xText: { SVG.number($0 / 1000) }, yText: { "\(SVG.number($0)) %" }, strips: strips
      ).svg)
  }

  private func strip(_ method: String) -> StripPlot.Strip? {
    guard let result = comparison.typical(method), result.isDone,
      let work = result.lab.throughput, work.bucketMs == GuestThroughput.bucketMs,
      work.baselinePerSecond > 0, let silence = work.silence(lengthMs: result.lab.heartbeatGapMs)
    else { return nil }
    let full = Double(work.baselinePerSecond) * Double(work.bucketMs) / 1000
    let stop = Double(silence.lowerBound)
    let values = work.timeline.enumerated().map { index, count in
      (x: Double(index) * Double(work.bucketMs) - stop, y: Double(count) / full * 100)
    }.filter { Self.switchoverMs.contains($0.x) }
    guard !values.isEmpty else { return nil }
    let length = silence.upperBound - silence.lowerBound
    return StripPlot.Strip(
      name: method, text: "silent for \(Milliseconds.format(length))",
      colour: colours[method] ?? 0, values: values, mark: 0...Double(length))
  }
}
