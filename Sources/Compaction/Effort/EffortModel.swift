/// What each effort costs and gains on the memory at hand: measured where it was tried lately, reckoned
/// from a neighbour that was tried where it wasn't.
struct EffortModel: Sendable, Equatable {
  struct Figures: Sendable, Equatable {
    /// Page bytes that one worker handles in a millisecond, at least 1.
    var bytesPerMs: UInt64
    /// Wire bytes for a thousand page bytes, `1...1100`.
    var wirePermille: UInt64
    /// When it was measured last, counted in decisions.
    var decision: UInt64
  }

  /// Decisions after which a measurement is too old to be believed: 5 s of them.
  static let ageMax: UInt64 = 50
  /// Decisions within which a measurement is of the same memory as the next.
  private static let freshMax: UInt64 = 3
  /// Share of a new measurement in the mean, one in so many.
  private static let smoothing: UInt64 = 4

  private var measured: [Figures?] = Array(repeating: nil, count: Effort.allCases.count)

  /// Takes a batch in that was packed with an effort; `busyUs` is the worker's time for it.
  mutating func note(
    _ effort: Effort, pageBytes: UInt64, wireBytes: UInt64, busyUs: UInt64, decision: UInt64
  ) {
    guard pageBytes > 0 else { return }
    let speed = max(pageBytes * 1000 / max(busyUs, 1), 1)
    let permille = min(max(wireBytes * 1000 / pageBytes, 1), 1100)
    var figures =
      measured[Int(effort.rawValue)]
      ?? Figures(bytesPerMs: speed, wirePermille: permille, decision: decision)
    // What was not tried for a while was tried on other memory.
    let isOld = decision > figures.decision + Self.freshMax
    let rest = isOld ? 0 : Self.smoothing - 1
    figures.bytesPerMs = max((figures.bytesPerMs * rest + speed) / (rest + 1), 1)
    figures.wirePermille = max((figures.wirePermille * rest + permille) / (rest + 1), 1)
    figures.decision = decision
    measured[Int(effort.rawValue)] = figures
  }

  /// What is known of an effort; nil before anything was measured. `off` costs nothing.
  func figures(_ effort: Effort, decision: UInt64) -> Figures? {
    if effort == .off {
      return Figures(bytesPerMs: .max, wirePermille: 1000, decision: decision)
    }
    if let own = measured[Int(effort.rawValue)], own.decision + Self.ageMax >= decision {
      return own
    }
    let tried = Effort.allCases.compactMap { other in
      measured[Int(other.rawValue)].map { (other, $0) }
    }
    guard let (base, known) = tried.max(by: { $0.1.decision < $1.1.decision }) else { return nil }
    let (own, theirs) = (Self.typical(effort), Self.typical(base))
    return Figures(
      bytesPerMs: max(known.bytesPerMs * own.speed / theirs.speed, 1),
      wirePermille: min(max(known.wirePermille * own.size / theirs.size, 1), 1000),
      decision: known.decision)
  }

  /// Speeds and sizes beside each other's, of ordinary guest memory; only ratios of them count.
  private static func typical(_ effort: Effort) -> (speed: UInt64, size: UInt64) {
    switch effort {
    case .off: (4000, 4000)
    case .lz4: (700, 1350)
    case .zstd1: (350, 1000)
    case .zstd3: (200, 950)
    case .zstd6: (70, 900)
    }
  }
}
