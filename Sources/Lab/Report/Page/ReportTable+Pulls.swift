import Agent

extension MigrationRecord.Pull {
  /// Pages that the guest waited for over the network, not for what the destination made itself.
  var networkFaultPages: UInt64? {
    faultPages.map { $0 - min(localFaultPages ?? 0, $0) }
  }

  /// Share of these in the pages that came while the guest ran there; nil without any.
  var networkFaultPercent: Double? {
    guard let networkFaultPages, let placedPages, placedPages > 0 else { return nil }
    return Double(networkFaultPages) / Double(placedPages) * 100
  }

  /// What the destination made of what it has; nil where it had nothing.
  var localPages: UInt64? {
    let known = [snapshotPages, diskPages, vaultPages].compactMap(\.self)
    return known.isEmpty ? nil : known.reduce(0) { $0.addingReportingOverflow($1).partialValue }
  }
}

extension ReportTable {
  /// What became of the pages that guests did without at first: medians; nil where none did.
  static func pulls(_ comparison: MatrixComparison) -> ReportTable? {
    let columns: [(name: String, value: (MigrationRecord.Pull) -> UInt64?)] = [
      ("missing at the stop", \.owedPages), ("came while it ran", \.placedPages),
      ("made there", \.localPages), ("waited for", \.faultPages),
      ("over the network", \.networkFaultPages),
    ]
    let rows = comparison.methods.compactMap { method -> (name: String, cells: [Cell])? in
      let pulls = comparison.done(method).compactMap(\.record.pull)
      guard !pulls.isEmpty else { return nil }
      let cells = columns.map { column in
        let median = Estimate.median(pulls.compactMap(column.value).map { Double($0) })
        return Cell(text: median.map { "\(UInt64(min($0.rounded(), 1e15)))" } ?? "–", value: median)
      }
      return (method, cells)
    }
    guard !rows.isEmpty else { return nil }
    return ReportTable(
      name: ReportText.slug("\(comparison.guest)-\(comparison.qemu)-pulls"),
      title: "Pages that the guest went on without", header: ["method"] + columns.map(\.name),
      rows: rows)
  }
}
