import Base

/// Cleaning: what is still needed of a segment is written once more, behind everything else.
extension SurrogateIndex {
  /// Longest run that is written again as one, in blocks: a guest's write to one of them waits for all.
  static let rewriteBlocksMax = 64
  /// Units that a segment's cleaning may take: half of what it gives.
  static let cleaningUnitsMax = segmentUnitCount / 2
  /// Segments that one call looks into.
  private static let looksMax = 8

  /// A segment that shall be empty.
  public struct Cleaning: Sendable, Hashable {
    public let segment: Int
    /// Blocks whose newest content only it has, in runs of `rewriteBlocksMax` at most, in the disk's order.
    public let runs: [Range<Int>]
  }

  /// What is written again as one record.
  public struct Rewrite: Sendable, Hashable {
    public let blocks: Range<Int>
    public let isZeros: Bool

    var unitCount: Int { SurrogateRecord.unitCount(isZeros ? .zeros : .data, blocks) }
  }

  /// Drops copies of a segment and says what else of it is needed, when that takes at most half of what
  /// it gives; nil: no segment is worth it now.
  ///
  /// Records of a single block take two units, so what counts is what it takes, and not how many blocks
  /// there are: a segment full of them would be written again into just as much room, for ever.
  public mutating func clean() -> Cleaning? {
    for _ in 0..<Self.looksMax {
      guard let chosen = leastNeeded() else { return nil }
      let runs = needed(of: chosen)
      let units = runs.reduce(0) { sum, run in
        rewrites(of: run, in: chosen).reduce(sum) { $0 + $1.unitCount }
      }
      guard units <= Self.cleaningUnitsMax else {
        segments[chosen].liveInVain = segments[chosen].live
        continue
      }
      for record in segments[chosen].records where record.kind == .copy {
        for block in record.blocks where known(block)?.sequence == record.sequence {
          drop(block..<(block + 1))
        }
      }
      return Cleaning(segment: chosen, runs: runs)
    }
    return nil
  }

  private func leastNeeded() -> Int? {
    var chosen: Int?
    for index in segments.indices where isCleanable(index) {
      if let before = chosen, segments[before].outsourced <= segments[index].outsourced { continue }
      chosen = index
    }
    return chosen
  }

  private func isCleanable(_ index: Int) -> Bool {
    let segment = segments[index]
    guard isClosed(index), segment.live > 0, segment.pending == 0,
      segment.outsourced <= Self.cleaningUnitsMax
    else { return false }
    // After one in vain it has to have become noticeably emptier.
    guard let before = segment.liveInVain else { return true }
    return segment.live <= before - max(before / 16, 1)
  }

  private func needed(of segment: Int) -> [Range<Int>] {
    var blocks: [Int] = []
    for record in segments[segment].records where record.kind != .copy {
      blocks += record.blocks.filter { known($0)?.sequence == record.sequence }
    }
    var runs: [Range<Int>] = []
    for block in blocks.sorted() {
      if let last = runs.last, last.upperBound == block, last.count < Self.rewriteBlocksMax {
        runs[runs.count - 1] = last.lowerBound..<(block + 1)
      } else {
        runs.append(block..<(block + 1))
      }
    }
    return runs
  }

  /// The records that what a segment still has of a run is written again as: data that were many become one.
  public func rewrites(of run: Range<Int>, in segment: Int) -> [Rewrite] {
    var rewrites: [Rewrite] = []
    for block in run where outsourced[block] {
      guard let place = known(block), Int(place.home) / Self.segmentUnitCount == segment else {
        continue
      }
      let isZeros = place.unit == nil
      if let last = rewrites.last, last.isZeros == isZeros, last.blocks.upperBound == block {
        let blocks = last.blocks.lowerBound..<(block + 1)
        rewrites[rewrites.count - 1] = Rewrite(blocks: blocks, isZeros: isZeros)
      } else {
        rewrites.append(Rewrite(blocks: block..<(block + 1), isZeros: isZeros))
      }
    }
    return rewrites
  }
}
