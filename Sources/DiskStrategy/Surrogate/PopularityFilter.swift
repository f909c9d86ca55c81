/// Which blocks the guest reads again and again. Pure.
///
/// Each touch of a block counts for one; what it counts for halves every `halfLifeMs`. A block is popular when
/// its touches are worth more than `threshold - 1` by a quarter, so a single touch never makes one, and neither
/// do two that lie far apart. Blocks are kept in sets of four; one that comes into a full set takes the place
/// of the least popular there.
public struct PopularityFilter: Sendable {
  /// What a guest's reads have to be like to be popular.
  public struct Terms: Sendable, Codable, Hashable {
    /// Touches within a short time that make a block popular, 2 to 100.
    public var threshold: UInt32 = 3
    /// Blocks of 4 KiB that are watched, and of which copies are kept, at most.
    public var capacity = 65_536
    /// Time in which a touch loses half of its weight, in milliseconds.
    public var halfLifeMs: UInt64 = 10_000

    public static let thresholds: ClosedRange<UInt32> = 2...100
    public static let capacities = 0...16_777_216

    public init() {}
  }

  private struct Entry: Sendable {
    var block = -1
    var score: UInt32 = 0
    var atMs: UInt64 = 0
  }

  private static let touch: UInt32 = 256
  private static let wayCount = 4

  public let terms: Terms
  private var entries: [Entry]

  /// Terms out of range are brought into it. A capacity of 0: nothing is ever popular.
  public init(_ terms: Terms) {
    var terms = terms
    terms.threshold = min(
      max(terms.threshold, Terms.thresholds.lowerBound), Terms.thresholds.upperBound)
    terms.capacity = min(
      max(terms.capacity, Terms.capacities.lowerBound), Terms.capacities.upperBound)
    terms.halfLifeMs = min(max(terms.halfLifeMs, 1), 1 << 40)
    self.terms = terms
    let sets = (terms.capacity + Self.wayCount - 1) / Self.wayCount
    entries = Array(repeating: Entry(), count: sets * Self.wayCount)
  }

  /// The guest reads a block; says whether it is popular by that.
  public mutating func touch(_ block: Int, nowMs: UInt64) -> Bool {
    guard !entries.isEmpty else { return false }
    let mixed = UInt64(truncatingIfNeeded: block) &* 0x9E37_79B9_7F4A_7C15
    let set = Int((mixed >> 20) % UInt64(entries.count / Self.wayCount)) * Self.wayCount
    var chosen = set
    var least = UInt32.max
    for index in set..<(set + Self.wayCount) {
      if entries[index].block == block {
        chosen = index
        break
      }
      let score = entries[index].block < 0 ? 0 : decayed(entries[index], nowMs)
      if score < least { (chosen, least) = (index, score) }
    }
    let before = entries[chosen].block == block ? decayed(entries[chosen], nowMs) : 0
    let score = min(before, .max / 2) + Self.touch
    entries[chosen] = Entry(block: block, score: score, atMs: nowMs)
    return score >= (terms.threshold - 1) * Self.touch + Self.touch / 4
  }

  /// Halves for each half-life that has passed, and in a straight line between.
  private func decayed(_ entry: Entry, _ nowMs: UInt64) -> UInt32 {
    let passed = nowMs - min(entry.atMs, nowMs)
    let halvings = passed / terms.halfLifeMs
    guard halvings < 32 else { return 0 }
    let whole = UInt64(entry.score) >> halvings
    let rest = passed % terms.halfLifeMs
    return UInt32(truncatingIfNeeded: whole - whole * rest / terms.halfLifeMs / 2)
  }
}
