import Base

/// One migration of a scenario: this guest (or disk), with this QEMU, by this method, in this round.
public struct MatrixCell: Sendable, Hashable {
  public let round: Int
  public let guest, qemu: String
  public let method: LabMethod

  /// Names the cell in a results file.
  public var key: String { "\(round)/\(guest)/\(qemu)/\(method.name)" }
  /// What is compared: the same guest with the same QEMU in the same round, one after the other, so
  /// that a machine that gets slower or busier does so for all of them.
  public var block: String { "\(round)/\(guest)/\(qemu)" }
}

/// What of a scenario is wanted; nil: all of it.
public struct MatrixSelection: Sendable, Equatable {
  public var methods: [LabMethod]?
  public var guests: [String]?
  public var rounds: Int?
  public init() {}
}

/// The order of a scenario's migrations. Pure: the seed decides.
public enum MatrixPlan {
  /// All wanted cells. In each round the blocks come in an order of their own, and in each block the
  /// methods do; a selection leaves cells out and changes nothing about the order of the others.
  public static func cells(_ scenario: MatrixScenario, _ selection: MatrixSelection = .init())
    -> [MatrixCell]
  {
    let methods =
      scenario.methods + (selection.methods ?? []).filter { !scenario.methods.contains($0) }
    var cells: [MatrixCell] = []
    for round in 0..<(selection.rounds ?? scenario.rounds) {
      let blocks = scenario.subjects.flatMap { name in
        scenario.qemus.map { (guest: name, qemu: $0) }
      }
      for (guest, qemu) in shuffled(blocks, scenario.seed, ["\(round)"]) {
        if let guests = selection.guests, !guests.contains(guest) { continue }
        for method in shuffled(methods, scenario.seed, ["\(round)", guest, qemu]) {
          if let wanted = selection.methods, !wanted.contains(method) { continue }
          cells.append(MatrixCell(round: round, guest: guest, qemu: qemu, method: method))
        }
      }
    }
    return cells
  }

  private static func shuffled<Element>(
    _ elements: [Element], _ seed: UInt64, _ place: [String]
  ) -> [Element] {
    var random = SplitMix64(seed: seed ^ CacheFolder.hash(place))
    return elements.shuffled(using: &random)
  }
}
