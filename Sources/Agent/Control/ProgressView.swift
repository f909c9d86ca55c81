import Base
import Strategy

/// Draws a running migration as lines of text. Pure: what is shown depends on the arguments alone.
public enum ProgressView {
  /// News older than this are marked as such.
  static let staleAfterMs: UInt64 = 3000

  /// Lines for a terminal of `width` columns, none wider than that.
  ///
  /// - Parameter ageMs: milliseconds since `progress` was true; times are carried on by it.
  public static func lines(
    _ progress: MigrationProgress, width: Int, ageMs: UInt64 = 0
  ) -> [String] {
    let width = max(width, 10)
    let arrow = progress.side == "destination" ? "←" : "→"
    var title = "\(progress.vm) \(arrow) \(progress.peer)  \(phase(progress))"
    title += "  [\(progress.strategy)\(progress.pageSource.map { ", \($0) pages" } ?? "")]"
    let rows = [title, bar(progress, width: width, ageMs: ageMs)]
    return (rows + facts(progress, width: width)).map {
      TerminalText.fit(TerminalText.plain($0), columns: width)
    }
  }

  /// The same on one line, for logs and pipes.
  public static func line(_ progress: MigrationProgress) -> String {
    let parts =
      ["\(progress.vm) \(phase(progress))", percent(progress), eta(progress, ageMs: 0)]
      + figures(progress)
    return TerminalText.plain(parts.joined(separator: "  "))
  }

  private static func phase(_ progress: MigrationProgress) -> String {
    guard progress.phase == .iterate, progress.iteration > 0 else { return progress.phase.rawValue }
    return "\(progress.phase.rawValue) \(progress.iteration)"
  }

  static func percent(_ progress: MigrationProgress) -> String {
    let permille = min(progress.progressPermille, 1000)
    return "\(permille / 10).\(permille % 10) %"
  }

  private static func eta(_ progress: MigrationProgress, ageMs: UInt64) -> String {
    guard progress.phase != .done else { return "done" }
    guard progress.phase != .keep else { return "moved" }
    if progress.waitedMs != nil || !progress.isConnected { return waiting(progress, ageMs: ageMs) }
    guard let etaMs = progress.etaMs else { return "end not known yet" }
    func left(_ ms: UInt64) -> String { coarse(ms > ageMs ? ms - ageMs : 0) }
    let text = "\(left(etaMs)) left"
    guard let lowMs = progress.etaLowMs else { return text }
    guard let highMs = progress.etaHighMs else { return text + " (\(left(lowMs)) or more)" }
    return text + " (\(left(lowMs)) to \(left(highMs)))"
  }

  /// Nothing comes through, so there is no end to name.
  private static func waiting(_ progress: MigrationProgress, ageMs: UInt64) -> String {
    let text =
      progress.isConnected
      ? "end not known, nothing has come through" : "looking for the other agent"
    guard let waitedMs = progress.waitedMs else { return text }
    return text + " for \(coarse(waitedMs.addingSaturating(ageMs)))"
  }

  /// Tenths of a second below a minute: finer digits only flicker.
  private static func coarse(_ ms: UInt64) -> String {
    ms >= 60_000 ? Milliseconds.format(ms) : "\(ms / 1000).\(ms % 1000 / 100) s"
  }

  private static func bar(_ progress: MigrationProgress, width: Int, ageMs: UInt64) -> String {
    let (elapsed, overflow) = progress.elapsedMs.addingReportingOverflow(ageMs)
    var tail = " \(percent(progress))  \(coarse(overflow ? .max : elapsed)), "
    tail += eta(progress, ageMs: ageMs)
    if ageMs > staleAfterMs { tail += ", no news for \(ageMs / 1000) s" }
    let columns = min(width - TerminalText.width(tail), 60)
    guard columns >= 5 else { return String(tail.dropFirst()) }
    let full = Int(min(progress.progressPermille, 1000)) * columns / 1000
    return String(repeating: "█", count: full) + String(repeating: "░", count: columns - full)
      + tail
  }

  /// What is measured right now; unknown figures are left out, not shown as 0.
  private static func figures(_ progress: MigrationProgress) -> [String] {
    // The guest has been handed over: rates and forecasts are about a time that is past.
    if progress.phase == .keep {
      return ["moved; keeping its memory here, remaining \(ByteCount(progress.remainingBytes))"]
    }
    if progress.phase == .disks {
      let owed = progress.diskRemainingBytes ?? 0
      let rate = ByteRate(bytesPerSecond: progress.wireBytesPerSecond).map { ["link \($0)"] } ?? []
      return rate + [
        "disks: \(ByteCount(owed)) of \(ByteCount(progress.diskBytes ?? 0)) left",
        "then memory: \(ByteCount(progress.ramBytes))", "sent \(ByteCount(progress.wireBytes))",
      ]
    }
    guard progress.phase < .commit else { return ["sent \(ByteCount(progress.wireBytes))"] }
    var parts: [String] = []
    if let rate = ByteRate(bytesPerSecond: progress.wireBytesPerSecond) {
      parts.append("link \(rate)")
    }
    if let dirty = progress.dirtyBytesPerSecond {
      parts.append("dirty \(ByteRate(bytesPerSecond: dirty)?.description ?? "0 B/s")")
    }
    if let workingSet = progress.workingSetBytes {
      parts.append("working set \(ByteCount(workingSet))")
    }
    parts.append("remaining \(ByteCount(progress.remainingBytes))")
    if let downtime = progress.expectedDowntimeMs {
      parts.append("downtime now \(Milliseconds.format(downtime))")
    }
    if let bound = progress.boundMs { parts.append("ends within \(Milliseconds.format(bound))") }
    parts.append("sent \(ByteCount(progress.wireBytes))")
    if let lanes = progress.laneCount {
      let retries = progress.retries == 0 ? "" : ", \(progress.retries) opened again"
      parts.append("\(lanes) lanes\(retries)")
    }
    return parts
  }

  /// As many figures a line as fit.
  private static func facts(_ progress: MigrationProgress, width: Int) -> [String] {
    var rows: [String] = []
    for part in figures(progress) {
      if let last = rows.last, TerminalText.width(last) + 3 + TerminalText.width(part) <= width {
        rows[rows.count - 1] = last + "   " + part
      } else {
        rows.append(part)
      }
    }
    return rows
  }
}

/// Keeps what is shown from running backwards, whatever an agent sends.
public struct SteadyProgress: Sendable {
  private var highest: [String: UInt64] = [:]

  public init() {}

  /// `progress` with a share of work not below the one shown before for the same migration.
  public mutating func settle(_ progress: MigrationProgress) -> MigrationProgress {
    var shown = progress
    shown.progressPermille = max(min(progress.progressPermille, 1000), highest[progress.id] ?? 0)
    highest[progress.id] = shown.progressPermille
    return shown
  }

  /// Forgets migrations that are not in `ids`, so that a view left open for weeks stays small.
  public mutating func keep(only ids: Set<String>) {
    highest = highest.filter { ids.contains($0.key) }
  }
}
