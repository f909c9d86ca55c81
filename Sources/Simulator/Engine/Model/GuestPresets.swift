public import Base

extension GuestModel {
  /// What RAM holds, beside what the guest writes.
  public struct Memory: Sendable, Equatable {
    public var ram: ByteCount
    /// Share of RAM that is zero, in thousandths.
    public var zeroPermille: UInt64
    /// Wire bytes of a page that isn't zero, at most.
    public var pageBytes: Double
    public var vcpuCount: UInt64

    public init(
      ram: ByteCount, zeroPermille: UInt64 = 0, pageBytes: Double = GuestModel.rawBytes,
      vcpuCount: UInt64 = 4
    ) {
      (self.ram, self.zeroPermille) = (ram, min(zeroPermille, 1000))
      (self.pageBytes, self.vcpuCount) = (pageBytes, vcpuCount)
    }

    var pages: Double { Double(Page.count(bytes: ram.bytes)) }
  }

  /// Writes to groups of pages, the rest of RAM at rest. Sizes beyond RAM are cut.
  static func writing(_ busy: [PageGroup], _ memory: Memory) -> GuestModel {
    var left = memory.pages
    var groups: [PageGroup] = []
    for var group in busy {
      group.pages = min(group.pages, left)
      group.wireBytes = memory.pageBytes
      left -= group.pages
      if group.pages > 0 { groups.append(group) }
    }
    let zero = min(memory.pages * Double(memory.zeroPermille) / 1000, left)
    if zero > 0 { groups.append(PageGroup(pages: zero, wireBytes: zeroBytes)) }
    if left > zero { groups.append(PageGroup(pages: left - zero, wireBytes: memory.pageBytes)) }
    return GuestModel(groups: groups, vcpuCount: memory.vcpuCount)
  }

  /// Writes hit any page of the working set alike.
  public static func uniform(
    _ memory: Memory, workingSet: ByteCount, pagesPerSecond: Double,
    pattern: PageGroup.Pattern = .scattered
  ) -> GuestModel {
    let pages = Double(Page.count(bytes: workingSet.bytes))
    return writing(
      [PageGroup(pages: pages, writesPerSecond: pagesPerSecond, pattern: pattern)], memory)
  }

  /// 80 % of the writes hit 20 % of the working set.
  public static func hotSet(
    _ memory: Memory, workingSet: ByteCount, pagesPerSecond: Double
  ) -> GuestModel {
    let pages = Double(Page.count(bytes: workingSet.bytes))
    return writing(
      [
        PageGroup(pages: pages * 0.2, writesPerSecond: pagesPerSecond * 0.8),
        PageGroup(pages: pages * 0.8, writesPerSecond: pagesPerSecond * 0.2),
      ], memory)
  }

  /// Page k of the working set gets writes in proportion to 1/k^exponent, in groups of ranks that
  /// double in size.
  public static func zipf(
    _ memory: Memory, workingSet: ByteCount, pagesPerSecond: Double, exponent: Double = 0.99
  ) -> GuestModel {
    let pages = Double(Page.count(bytes: workingSet.bytes))
    var ranks: [(first: Double, count: Double)] = []
    var first = 1.0
    while first <= pages {
      let count = min(first, pages - first + 1)
      ranks.append((first, count))
      first += count
    }
    // The sum over a group as its size times the weight of its geometric middle.
    let weights = ranks.map {
      $0.count * Mathematics.power(($0.first * ($0.first + $0.count - 0.5)).squareRoot(), -exponent)
    }
    let total = weights.reduce(0, +)
    let groups = zip(ranks, weights).map {
      PageGroup(pages: $0.count, writesPerSecond: pagesPerSecond * $1 / max(total, 1e-9))
    }
    return writing(groups, memory)
  }

  /// The same guest, busy and quiet in turns: in the second half of each cycle it writes at `quiet` of
  /// its rate.
  public func withPhases(cycleMs: UInt64, quiet: Double) -> GuestModel {
    var guest = self
    let ones = groups.map { _ in 1.0 }
    guest.phases = [
      GuestPhase(lengthMs: cycleMs / 2, factors: ones),
      GuestPhase(lengthMs: cycleMs - cycleMs / 2, factors: ones.map { _ in quiet }),
    ]
    return guest
  }
}
