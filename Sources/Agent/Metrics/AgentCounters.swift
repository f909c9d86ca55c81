/// What an agent's migrations have come to since it started; for its metrics.
struct AgentCounters: Sendable, Equatable {
  struct Ending: Hashable, Sendable { let side, outcome: String }

  var ended: [Ending: UInt64] = [:]
  /// Of migrations out of this host that have ended.
  var wireBytes: UInt64 = 0
  /// Pages of these, by the way they crossed the network.
  var pages: [String: UInt64] = [:]
  var durations = MetricHistogram(
    boundsMilli: [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600].map { $0 * 1000 })
  var downtimes = MetricHistogram(boundsMilli: [10, 30, 100, 200, 300, 500, 1000, 3000, 10_000])
  /// Mean error of the ETA as a part of the whole time.
  var etaErrors = MetricHistogram(boundsMilli: [20, 50, 100, 200, 500, 1000])

  /// - Parameter sentBytes: what was last said of it while it ran: the sum of both must never become smaller.
  mutating func add(_ record: MigrationRecord, sentBytes: UInt64 = 0) {
    ended[Ending(side: "source", outcome: record.outcome.rawValue), default: 0] += 1
    wireBytes &+= max(record.wireBytes ?? 0, sentBytes)
    for (kind, count) in record.pages.byKind { pages[kind, default: 0] &+= count ?? 0 }
    guard record.outcome == .completed else { return }
    if let ms = record.totalMs { durations.add(ms) }
    if let ms = record.downtimeMs { downtimes.add(ms) }
    if let permille = record.eta?.meanErrorPermille { etaErrors.add(permille) }
  }

  mutating func addIncoming(completed: Bool) {
    let outcome: MigrationRecord.Outcome = completed ? .completed : .failed
    ended[Ending(side: "destination", outcome: outcome.rawValue), default: 0] += 1
  }
}

extension MigrationRecord.Pages {
  /// Each by the name that it has in a record; nil: not counted.
  var byKind: [(kind: String, count: UInt64?)] {
    [
      ("zero", zero), ("uniform", uniform), ("raw", raw), ("compressed", compressed),
      ("delta", delta), ("duplicate", duplicate), ("snapshot", snapshot), ("vault", vault),
      ("disk", disk), ("gang", gang),
    ]
  }
}
