import Base

/// What a guest does to its disk: clients that each wait for their request before they make the next.
public struct DiskLoadModel: Sendable, Equatable {
  /// Where the guest's requests go.
  public enum Pattern: String, Sendable, CaseIterable {
    /// Anywhere in the part of the disk that is used.
    case uniform
    /// Four of five requests go to a tenth of it.
    case hotspot
    /// One behind the other, from its start to its end and again.
    case sequential
  }

  public var pattern = Pattern.uniform
  public var clients = 2
  /// Of its requests, in percent.
  public var readPercent = 70
  /// 4 KiB blocks of a request.
  public var requestBlocks = 2
  /// Share of the disk that is used, in percent.
  public var usedPercent = 50
  /// Between an answer and the next request, in microseconds, on average.
  public var thinkUs: UInt64 = 5000

  public init() {}

  /// The next request of a client.
  func next(
    _ place: inout Int, blockCount: Int, using random: inout SplitMix64
  ) -> (blocks: Range<Int>, isWrite: Bool) {
    let count = max(min(requestBlocks, blockCount), 1)
    let used = max(blockCount * usedPercent / 100, count)
    let slots = max(used / count, 1)
    let slot: Int
    switch pattern {
    case .uniform: slot = random.below(slots)
    case .hotspot:
      let isHot = random.below(5) > 0
      slot = random.below(isHot ? max(slots / 10, 1) : slots)
    case .sequential:
      slot = place % slots
      place += 1
    }
    let isWrite = random.below(100) >= readPercent
    return (slot * count..<slot * count + count, isWrite)
  }

  /// Time to the next request.
  func think(using random: inout SplitMix64) -> UInt64 {
    thinkUs == 0 ? 0 : random.next() % (thinkUs * 2 + 1)
  }
}
