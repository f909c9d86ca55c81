import Agent
import Base

/// What people read at the end: one column per trial, one row per fact.
public enum ResultTable {
  /// Repeated trials of a kind share a column: median, and the worst in brackets.
  public static func lines(_ trials: [Trial]) -> [String] {
    guard !trials.isEmpty else { return [] }
    var titles: [String] = []
    for trial in trials where !titles.contains(title(trial)) { titles.append(title(trial)) }
    let groups = titles.map { name in trials.filter { title($0) == name } }
    var rows: [[String]] = [[""] + titles]
    func row(_ name: String, _ value: ([Trial]) -> String?) {
      rows.append([name] + groups.map { value($0) ?? "not measured" })
    }
    row("outcome", outcome)
    row("total time") { figure($0.map(\.record.totalMs), Milliseconds.format) }
    row("downtime, says QEMU") { figure($0.map(\.record.downtimeMs), Milliseconds.format) }
    row("longest gap a client saw") { figure($0.map(\.record.clientGapMs), Milliseconds.format) }
    row("guest silent for") { figure($0.map(\.heartbeatGapMs), Milliseconds.format) }
    row("bytes on the wire") { figure($0.map(\.record.wireBytes)) { ByteCount($0).description } }
    row("pages") { $0.last.flatMap { pages($0.record.pages) } }
    row("client connections") { group in
      sum(group.map(\.brokenConnections)).map { $0 == 0 ? "all alive" : "\($0) broken" }
    }
    row("client operations/s") { figure($0.map(\.operationsPerSecond)) { "\($0)" } }
    row("guest slower by") { group in
      percent(group.compactMap { $0.throughput?.slowdownPercent })
    }
    row("guest back at 90 % after") {
      figure($0.map { $0.throughput?.recoveryMs }, Milliseconds.format)
    }
    row("guest self-check", selfCheck)
    row("audit of the pages", audit)
    return format(rows) + remarks(trials)
  }

  private static func title(_ trial: Trial) -> String {
    let name = trial.record.method == "qemu" ? "QEMU alone" : "Godwit"
    let source = trial.record.pageSource.map { ", \($0)" } ?? ""
    let audited = trial.record.audit.pagesCompared == nil ? "" : ", audited"
    return "\(name) (\(trial.record.strategy ?? "?")\(source)\(audited))"
  }

  private static func outcome(_ group: [Trial]) -> String? {
    guard group.count > 1 else { return group.first?.record.outcome.rawValue }
    return "\(group.count { $0.record.outcome == .completed }) of \(group.count) completed"
  }

  /// The median, and the largest where there are several; nil where none was measured.
  static func figure(_ values: [UInt64?], _ text: (UInt64) -> String) -> String? {
    let known = values.compactMap { $0 }.sorted()
    guard let largest = known.last else { return nil }
    let median = text(known[known.count / 2])
    return known.count == 1 ? median : "\(median) (at most \(text(largest)))"
  }

  /// The median, and the largest where there are several.
  private static func percent(_ values: [Int]) -> String? {
    let sorted = values.sorted()
    guard let largest = sorted.last else { return nil }
    let median = "\(sorted[sorted.count / 2]) %"
    return sorted.count == 1 ? median : "\(median) (at most \(largest) %)"
  }

  private static func sum(_ values: [UInt64?]) -> UInt64? {
    let known = values.compactMap { $0 }
    return known.isEmpty ? nil : known.reduce(0, +)
  }

  private static func selfCheck(_ group: [Trial]) -> String? {
    guard let errors = sum(group.map(\.record.guest.errors)) else { return nil }
    let intact = group.count { $0.record.guest.errors == 0 && ($0.scansAfter ?? 0) > 0 }
    guard intact == group.count else {
      return "\(intact) of \(group.count) intact, \(errors) errors"
    }
    return group.count == 1 ? "intact" : "\(intact) of \(group.count) intact"
  }

  private static func audit(_ group: [Trial]) -> String? {
    guard let compared = sum(group.map(\.record.audit.pagesCompared)),
      let differing = sum(group.map(\.record.audit.pagesDiffering))
    else { return nil }
    let uncovered = group.compactMap(\.record.audit.pagesUncovered).reduce(0, +)
    return (differing == 0 ? "\(compared) equal" : "\(differing) of \(compared) differ")
      + (uncovered > 0 ? ", \(uncovered) not compared" : "")
  }

  /// The kinds that occurred: `81000 raw, 50000 zero`.
  static func pages(_ pages: MigrationRecord.Pages) -> String? {
    let kinds: [(UInt64?, String)] = [
      (pages.raw, "raw"), (pages.compressed, "compressed"), (pages.delta, "delta"),
      (pages.duplicate, "duplicate"), (pages.snapshot, "snapshot"), (pages.vault, "vault"),
      (pages.disk, "disk"), (pages.gang, "gang"), (pages.zero, "zero"),
    ]
    let known = kinds.compactMap { count, name in count.map { "\($0) \(name)" } }
    return known.isEmpty ? nil : known.joined(separator: ", ")
  }

  private static func remarks(_ trials: [Trial]) -> [String] {
    let audited = trials.contains { $0.record.audit.pagesCompared != nil }
    let note =
      "audited: pages were compared while the guest was stopped, which is part of the downtime"
    let troubles = trials.flatMap { trial -> [String] in
      let reason = trial.record.reason.map { ["\(title(trial)): \($0)"] } ?? []
      return reason + trial.damage.map { "\(title(trial)): NOT INTACT: \($0)" }
    }
    return (audited ? [note] : []) + troubles
  }

  /// Pads columns; the first is a name, the others stand below their titles.
  static func format(_ rows: [[String]]) -> [String] {
    let columns = rows[0].count
    let widths = (0..<columns).map { column in
      rows.map { TerminalText.width($0[column]) }.max() ?? 0
    }
    return rows.map { row in
      let cells = zip(row, widths).map { TerminalText.pad(TerminalText.plain($0), columns: $1) }
      var line = "  " + cells.joined(separator: "   ")
      while line.last == " " { line.removeLast() }
      return line
    }
  }
}
