/// Looks at sampled pages as epochs by heat, without end: what a trace is made of. Pure.
public struct HeatTrack: Sendable {
  /// What changed between two looks.
  public struct Epoch: Sendable, Hashable {
    /// 1 and more.
    public let lengthMs: UInt64
    /// Distinct pages, by the number of the last 8 epochs, this one included, in which each was dirtied:
    /// 8 counts, for heat 1 to 8, together no more than RAM.
    public let dirtiedByHeat: [UInt64]
  }

  public let sample: PageSample
  private var marks: [UInt64] = []
  private var history: [UInt8]
  private var lastMs: UInt64 = 0

  public init(_ sample: PageSample) {
    self.sample = sample
    history = Array(repeating: 0, count: sample.pages.count)
  }

  /// Takes a look; nil after the first, and for one of another number of pages.
  public mutating func look(_ marks: [UInt64], atMs: UInt64) -> Epoch? {
    guard marks.count == sample.pages.count else { return nil }
    defer { (self.marks, lastMs) = (marks, atMs) }
    guard !self.marks.isEmpty else { return nil }
    var counts = [UInt64](repeating: 0, count: 8)
    for page in marks.indices {
      history[page] <<= 1
      guard marks[page] != self.marks[page] else { continue }
      history[page] |= 1
      counts[history[page].nonzeroBitCount - 1] += 1
    }
    let sampled = UInt64(max(sample.pages.count, 1))
    return Epoch(
      lengthMs: max(atMs.minusFloored(lastMs), 1),
      dirtiedByHeat: counts.map { sample.ramPages.scaled(by: $0, over: sampled) })
  }

  /// Pages that were zero at the last look.
  public var zeroPages: PageEstimate {
    PageEstimate(
      found: UInt64(marks.count { $0 == 0 }), of: UInt64(sample.pages.count),
      ramPages: sample.ramPages)
  }
}
