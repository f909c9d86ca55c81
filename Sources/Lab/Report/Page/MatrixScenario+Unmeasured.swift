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
      ("QEMU", missing(qemus, \.lab.qemu)),
    ] where !names.isEmpty {
      parts.append("\(kind) \(names.joined(separator: ", "))")
    }
    let measured = (results.map(\.lab.round).max() ?? -1) + 1
    if measured < rounds { parts.append(Self.range(from: measured, to: rounds)) }
    for (count, names) in behind(measured, in: results) {
      parts.append(
        "\(Self.range(from: count, to: measured)) of \(names.joined(separator: ", ")), in part")
    }
    guard !parts.isEmpty else { return nil }
    return "Of the scenario this was not measured: \(parts.joined(separator: "; "))."
  }

  /// Subjects that have results, and of some method that was measured at all fewer rounds than others, by how many
  /// these are.
  private func behind(
    _ measured: Int, in results: [MatrixResult]
  ) -> [(count: Int, names: [String])] {
    func way(_ result: MatrixResult) -> String { "\(result.lab.qemu)/\(result.lab.method)" }
    let ways = Set(results.map(way))
    let least = subjects.compactMap { name -> (name: String, count: Int)? in
      let own = Dictionary(grouping: results.filter { $0.lab.guest == name }, by: way)
      guard !own.isEmpty else { return nil }
      let counts = ways.map { Set((own[$0] ?? []).map(\.lab.round)).count }
      return counts.min().map { (name, $0) }
    }
    return Dictionary(grouping: least.filter { $0.count < measured }, by: \.count)
      .map { (count: $0.key, names: $0.value.map(\.name)) }
      .sorted { $0.count < $1.count }
  }

  private static func range(from count: Int, to rounds: Int) -> String {
    count + 1 == rounds ? "round \(rounds)" : "rounds \(count + 1) to \(rounds)"
  }
}
