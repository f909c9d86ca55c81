import Agent

/// One guest with one QEMU: what each method came to, and how it stands against QEMU's best way. Pure.
public struct MatrixComparison: Sendable {
  public let guest, qemu: String
  /// In the order of their names, rivals last.
  public let methods: [String]
  private let results: [String: [MatrixResult]]

  /// One per guest and QEMU, in the order in which they first come.
  public static func all(_ results: [MatrixResult]) -> [MatrixComparison] {
    var order: [String] = []
    var groups: [String: [MatrixResult]] = [:]
    for result in results {
      let key = "\(result.lab.guest)/\(result.lab.qemu)"
      if groups[key] == nil { order.append(key) }
      groups[key, default: []].append(result)
    }
    return order.sorted().compactMap { groups[$0].flatMap(MatrixComparison.init) }
  }

  init?(_ group: [MatrixResult]) {
    guard let first = group.first else { return nil }
    (guest, qemu) = (first.lab.guest, Self.qemu(of: first))
    results = Dictionary(grouping: group, by: \.lab.method)
    methods = results.keys.sorted()
  }

  /// `10.0.2`, or `7.2.22 to 10.0.2`.
  private static func qemu(of result: MatrixResult) -> String {
    let versions = result.record.qemu
    guard let source = versions.source else { return result.lab.qemu }
    guard let destination = versions.destination, destination != source else { return source }
    return "\(source) to \(destination)"
  }

  static func isRival(_ method: String) -> Bool { method.hasPrefix(Rival.prefix) }

  /// Whether it is a way to move that Godwit has: no rival, and no control in which nothing moves.
  static func isOwn(_ method: String) -> Bool {
    !isRival(method) && DiskMethod(rawValue: method)?.isStill != true
  }

  /// The run that stands for a method: the one with the median total among those that were done, else the
  /// first.
  func typical(_ method: String) -> MatrixResult? {
    let all = results[method] ?? []
    let done = all.filter(\.isDone).sorted { ($0.record.totalMs ?? 0) < ($1.record.totalMs ?? 0) }
    return done.isEmpty ? all.first : done[(done.count - 1) / 2]
  }

  /// Those that were done.
  func done(_ method: String) -> [MatrixResult] { (results[method] ?? []).filter(\.isDone) }

  /// How many of a method's migrations completed, of those that have a result.
  public func doneCount(_ method: String) -> (done: Int, of: Int) {
    let all = results[method] ?? []
    return (all.count(where: \.isDone), all.count)
  }

  /// How many of a method's results show no damage, completed or not.
  public func intactCount(_ method: String) -> Int {
    (results[method] ?? []).count(where: \.isIntact)
  }

  /// What the guest really wrote per second before its moves, in bytes, at the median; what it was asked
  /// to, where that was a rate; and the link's rate.
  public var dirtyRate: (written: Double, asked: Double?, link: Double)? {
    let all = results.values.flatMap(\.self)
    guard let first = all.first,
      let written = Estimate.median(all.compactMap(\.lab.dirtyBytesPerSecond).map { Double($0) })
    else { return nil }
    let asked = first.lab.dirtyMiBPerSecond.map { Double($0) * 1_048_576 }
    return (written, asked, Double(first.lab.linkBytesPerSecond))
  }

  /// What a disk's clients had before its moves: requests per second, and the median of their latency in microseconds;
  /// medians over all moves. Nil for guests.
  public var diskAlone: (perSecond: Double, medianUs: Double)? {
    let before = results.values.flatMap(\.self).compactMap(\.lab.disk?.before)
    guard let rate = Estimate.median(before.map { Double($0.perSecond) }),
      let latency = Estimate.median(before.map { Double($0.medianUs) })
    else { return nil }
    return (rate, latency)
  }

  /// Those that were measured here, or that every move has.
  public var figures: [MatrixFigure] {
    let facts = results.values.flatMap(\.self).map(\.lab)
    return MatrixFigure.allCases.filter { figure in
      figure.isOfEveryMove && facts.contains { figure.applies(to: $0) }
        || methods.contains { estimate(figure, $0) != nil }
    }
  }

  /// nil where the figure was measured in no block.
  public func estimate(_ figure: MatrixFigure, _ method: String) -> Estimate? {
    Estimate(values(figure, method).map(\.1))
  }

  /// A value for each block where it was measured. Of guests that were moved at once it is their median: they are
  /// no independent samples.
  private func values(_ figure: MatrixFigure, _ method: String) -> [(String, Double)] {
    let blocks = Dictionary(grouping: results[method] ?? [], by: \.baseBlock)
    return blocks.keys.sorted().compactMap { block in
      Estimate.median((blocks[block] ?? []).compactMap(figure.value)).map { (block, $0) }
    }
  }

  /// The method that is the same but for making pages small, where it was measured, too: `godwit-auto+plain` beside
  /// `godwit-auto`.
  public func plain(of method: String) -> String? {
    let name = method + "+plain"
    return Self.isRival(method) || !methods.contains(name) ? nil : name
  }

  /// QEMU's way with the smallest median that was reached.
  public func bestRival(_ figure: MatrixFigure) -> String? {
    let rivals = methods.filter(Self.isRival)
    let medians = rivals.compactMap { name in
      estimate(figure, name).map { (name: name, median: $0.median) }
    }
    return medians.filter(\.median.isFinite).min { $0.median < $1.median }?.name
  }

  /// `method`'s figure over `rival`'s in the same block, over all blocks where both were measured and the
  /// rival was done.
  public func ratio(_ figure: MatrixFigure, _ method: String, to rival: String) -> Estimate? {
    let theirs = Dictionary(uniqueKeysWithValues: values(figure, rival)).filter {
      $0.value.isFinite && $0.value > 0
    }
    let ratios = values(figure, method).compactMap { block, value in
      theirs[block].map { value / $0 }
    }
    return Estimate(ratios)
  }
}
