extension MatrixScenario {
  /// What of the scenario has no result, for people; nil: everything was measured.
  func unmeasured(in results: [MatrixResult]) -> String? {
    func missing(_ all: [String], _ found: KeyPath<MatrixResult, String>) -> [String] {
      let there = Set(results.map { $0[keyPath: found] })
      return all.filter { !there.contains($0) }
    }
    var parts: [String] = []
    for (kind, names) in [
      (self.kind.rawValue + "s", missing(subjects, \.lab.guest)),
      ("methods", missing(methods.map(\.name), \.lab.method)),
    ] where !names.isEmpty {
      parts.append("\(kind) \(names.joined(separator: ", "))")
    }
    let measured = (results.map(\.lab.round).max() ?? -1) + 1
    if measured < rounds { parts.append("rounds \(measured + 1) to \(rounds)") }
    guard !parts.isEmpty else { return nil }
    return "Of the scenario this was not measured: \(parts.joined(separator: "; "))."
  }
}
