import Agent
import Base
import Simulator

// What processors take of a move, for its forecast.
extension PlannedForecast {
  /// What processors take, as far as it is known.
  static func processors(_ costs: ProcessorCosts, _ guest: GuestSample) -> [String] {
    var parts: [String] = []
    if let ns = costs.packNs { parts.append("packs a page in \(microseconds(ns))") }
    if let ns = costs.nameNs { parts.append("names one in \(microseconds(ns))") }
    let threads = costs.threads == 1 ? "one thread" : "each of \(costs.threads) threads"
    var lines = parts.isEmpty ? [] : ["\(threads) here \(parts.joined(separator: ", and "))"]
    guard guest.known != nil else { return lines }
    let there = costs.destinationNs.map {
      "the destination takes \(microseconds($0)) for a page that it has, as earlier moves show"
    }
    lines.append(
      there
        ?? "what the destination takes for pages that it has is not known from earlier moves: it is taken to keep up"
    )
    return lines
  }

  private static func microseconds(_ ns: UInt64) -> String {
    "\(ns / 1000).\(ns % 1000 / 100) µs"
  }
}

extension GuestProfile {
  /// Takes over what pages cost the link and processors, those that the destination has and others. Returns whether
  /// the others are packed.
  ///
  /// - Parameter rate: what the link carries, in bytes per second.
  mutating func apply(
    _ costs: ProcessorCosts, _ sample: GuestSample, _ request: MigrationRequest, rate: Double
  ) -> Bool {
    if let known = sample.known {
      (heldPages, namedPages) = (known.snapshot.pages, known.namedPages)
      knownUs = costs.knownUs
    }
    guard let packed = sample.packedPermille,
      let sent = costs.sent(
        packedBytes: pageBytes * Double(packed) / 1000, bytesPerSecond: rate,
        isChosen: request.compaction != .auto)
    else { return false }
    (pageBytes, pageUs) = sent
    return true
  }
}

extension ProcessorCosts {
  /// - Parameter bytesPerSecond: what the link carries.
  init(_ report: PlanReport, _ guest: GuestSample, bytesPerSecond: Double) {
    self.init(
      threads: guest.processors?.threads ?? 1, packNs: guest.processors?.packPageNs,
      nameNs: guest.processors?.namePageNs)
    learn(
      from: (report.earlierKnown ?? []).map {
        Move(
          knownPages: $0.knownPages, wireBytes: $0.wireBytes, encodeMs: $0.encodeMs,
          totalMs: $0.totalMs)
      }, bytesPerSecond: bytesPerSecond,
      fixedMs: PlannedForecast.startMs + PlannedForecast.pauseMs)
  }
}
