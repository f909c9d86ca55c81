import Agent
import Base

/// What a person reads at the end of a migration.
enum RecordReport {
  static func lines(_ record: MigrationRecord) -> [String] {
    var rows = [headline(record)]
    func row(_ name: String, _ value: String?) {
      if let value { rows.append("  " + TerminalText.pad(name, columns: 14) + value) }
    }
    row("downtime", record.downtimeMs.map(Milliseconds.format))
    row("on the wire", record.wireBytes.map { ByteCount($0).description })
    row("pages", pages(record.pages))
    row("disks", disks(record.disk))
    row("ETA", record.eta.flatMap(EtaReport.summary))
    row("page source", record.pageSource)
    row("audit", audit(record.audit))
    row("kept here", record.kept.flatMap(kept))
    row("QEMU", versions(record.qemu))
    return rows.map(TerminalText.plain)
  }

  private static func headline(_ record: MigrationRecord) -> String {
    let vm = record.vm ?? "the guest"
    let destination = record.destination ?? "the destination"
    let time = record.totalMs.map { " in \(Milliseconds.format($0))" } ?? ""
    let reason = record.reason.map { ": \($0)" } ?? ""
    return switch record.outcome {
    case .completed: "\(vm) moved to \(destination)\(time)"
    case .failed: "\(vm) was not moved to \(destination)\(reason)"
    case .cancelled: "\(vm) stays here, the migration was cancelled\(reason)"
    case .refused: "refused before anything moved\(reason)"
    }
  }

  private static func pages(_ pages: MigrationRecord.Pages) -> String? {
    let kinds: [(String, UInt64?)] = [
      ("zero", pages.zero), ("uniform", pages.uniform), ("raw", pages.raw),
      ("compressed", pages.compressed),
      ("delta", pages.delta), ("duplicate", pages.duplicate), ("snapshot", pages.snapshot),
      ("vault", pages.vault), ("disk", pages.disk), ("gang", pages.gang),
    ]
    let counted = kinds.compactMap { name, count in count.map { "\(grouped($0)) \(name)" } }
    return counted.isEmpty ? nil : counted.joined(separator: ", ")
  }

  private static func disks(_ disk: MigrationRecord.Disk) -> String? {
    guard let bytes = disk.movedBytes, let kept = disk.keptAtSource else { return nil }
    let pause = disk.pauseMs.map {
      ", the stopped guest waited \(Milliseconds.format($0)) for them"
    }
    return "\(ByteCount(bytes)) moved\(pause ?? ""); left here, unused: "
      + kept.joined(separator: ", ")
  }

  private static func audit(_ audit: MigrationRecord.Audit) -> String? {
    guard let compared = audit.pagesCompared, let differing = audit.pagesDiffering else {
      return nil
    }
    let uncovered = audit.pagesUncovered ?? 0
    return "\(grouped(compared)) pages compared, \(grouped(differing)) differ"
      + (uncovered > 0 ? ", \(grouped(uncovered)) could not be compared" : "")
  }

  private static func kept(_ kept: MigrationRecord.Kept) -> String? {
    if let problem = kept.problem { return "nothing: \(problem)" }
    return kept.bytes.map { bytes in
      let time = kept.durationMs.map { " in \(Milliseconds.format($0))" } ?? ""
      return "\(ByteCount(bytes)) of its memory\(time)"
    }
  }

  private static func versions(_ qemu: MigrationRecord.Versions) -> String? {
    guard let source = qemu.source, let destination = qemu.destination else { return nil }
    return source == destination ? source : "\(source) to \(destination)"
  }

  /// `1234567` as `1,234,567`.
  static func grouped(_ value: UInt64) -> String {
    var text = ""
    for (index, digit) in "\(value)".reversed().enumerated() {
      if index > 0, index.isMultiple(of: 3) { text.append(",") }
      text.append(digit)
    }
    return String(text.reversed())
  }
}

extension MigrationRecord {
  /// How `godwit migrate` exits.
  var exitStatus: ExitStatus {
    if isGuestSafe == false { return .needsHuman }
    return switch outcome {
    case .completed: .done
    case .failed: .failed
    case .cancelled: .cancelled
    case .refused: .refused
    }
  }
}
