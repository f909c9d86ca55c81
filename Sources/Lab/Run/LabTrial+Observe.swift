import Agent
import Base
import HostIO

extension LabRun {
  /// Fills in what was seen from outside, and judges.
  static func observe(
    _ trial: inout Trial, _ session: GuestSession, fromUs: UInt64, untilUs: UInt64, moved: Bool
  ) {
    let log = session.serial.log
    trial.record.guest = .init(heartbeats: UInt64(log.entries.count), errors: log.errors)
    let here: HeartbeatLog.Side = moved ? .destination : .source
    let after = log.entries.filter { $0.side == here && $0.atUs > untilUs - aftermathMs * 1000 }
    if let first = after.first, let last = after.last {
      // A guest that went back to an older state is found below, by its numbers.
      let (from, to) = (first.beat.verifiedScans, last.beat.verifiedScans)
      trial.scansAfter = to - min(from, to)
    }
    if moved { trial.heartbeatGapMs = log.handoverMs }
    if let report = session.client?.report() {
      trial.brokenConnections = report.brokenConnections
      trial.record.clientGapMs = report.longestGapMs(fromUs: fromUs, toUs: untilUs)
      let timeline = report.timeline(
        fromUs: fromUs, toUs: untilUs, bucketMs: Trial.operationsBucketMs)
      let count = timeline.reduce(0, +)
      trial.operationsTimeline = timeline
      trial.operationsPerSecond = Ratio.scale(
        count * UInt64(session.options.clients.batch), 1_000_000, over: max(untilUs - fromUs, 1))
      // Without a bridge the guest's address changes, so that connections cannot survive.
      if session.hosts.kind == .namespaces, report.brokenConnections > 0 {
        trial.damage.append(
          "\(report.brokenConnections) client connections broke (\(report.firstFailure ?? "?"))")
      }
      if report.wrongValues > 0 { trial.damage.append("\(report.wrongValues) wrong values") }
    }
    if after.isEmpty {
      trial.damage.append("the guest's heart stopped\(lastWords(log))")
    } else if (trial.scansAfter ?? 0) == 0 {
      trial.damage.append("the guest did not finish checking its memory")
    }
    if log.errors > 0 {
      let first = log.otherLines.first { $0.hasPrefix("ERR") } ?? "?"
      trial.damage.append("\(log.errors) errors in the guest's memory (first: \(first))")
    }
    if let first = log.firstBreak {
      let heard = log.otherLines.suffix(3).joined(separator: " | ")
      trial.damage.append(
        "\(log.sequenceBreaks) heartbeats lost or repeated (first: \(first); other lines: \(heard))"
      )
    }
    if let differing = trial.record.audit.pagesDiffering, differing > 0 {
      trial.damage.append("\(differing) pages differ between source and destination")
    }
  }

  private static func lastWords(_ log: HeartbeatLog) -> String {
    log.otherLines.last.map { "; it said last: \($0)" } ?? ""
  }
}
