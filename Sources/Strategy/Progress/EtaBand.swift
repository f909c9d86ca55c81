/// How sure an ETA is: the spread of the ends that the looks of the last seconds foretold. Pure.
///
/// While forecasts agree the band is narrow; when the guest or the link changes, they disagree and it
/// widens. A look that could foretell no end leaves the band open above.
public struct EtaBand: Sendable, Equatable {
  /// How long a look counts, in milliseconds.
  static let windowMs: UInt64 = 10_000
  /// Looks closer together than this count once.
  static let spacingMs: UInt64 = 250
  /// With fewer looks than this nothing has been confirmed yet, and the band is wider.
  static let trustedCount = 8
  /// What no forecast is surer than, in milliseconds: the pace of the looks themselves.
  static let leastMs: UInt64 = 50

  private struct Look: Sendable, Equatable {
    let atMs: UInt64
    let endMs: UInt64?
  }

  private var looks: [Look] = []
  /// Milliseconds to the earliest and the latest end; nil: none can be named.
  public private(set) var lowMs: UInt64?
  public private(set) var highMs: UInt64?

  public init() {}

  /// - Parameter isOpenAbove: something that may delay the end can't be known yet.
  public mutating func note(nowMs: UInt64, etaMs: UInt64?, isOpenAbove: Bool = false) {
    looks.removeAll { nowMs > $0.atMs.addingSaturating(Self.windowMs) }
    let look = Look(atMs: nowMs, endMs: etaMs.map { nowMs.addingSaturating($0) })
    if looks.last.map({ nowMs >= $0.atMs.addingSaturating(Self.spacingMs) }) ?? true {
      looks.append(look)
    }
    guard let etaMs else { return (lowMs, highMs) = (nil, nil) }
    let ends = (looks + [look]).map(\.endMs)
    let margin = (etaMs / (looks.count < Self.trustedCount ? 3 : 10)).addingSaturating(Self.leastMs)
    let known = ends.compactMap { $0 }
    let (first, last) = (known.min() ?? nowMs, known.max() ?? nowMs)
    let low = first > nowMs ? first - nowMs : 0
    lowMs = low > margin ? low - margin : 0
    let isKnown = known.count == ends.count && !isOpenAbove
    highMs = isKnown ? (last - nowMs).addingSaturating(margin) : nil
  }
}
