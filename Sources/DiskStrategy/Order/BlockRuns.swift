public import Base

/// Blocks that somebody goes through in runs: those that are wanted, without those that are taken already. Pure.
public protocol BlockRuns {
  /// Blocks that are still to be gone through, taken or not.
  var wanted: PageBitmap { get }
  /// Blocks of a chunk that somebody has taken, the lowest in the lowest bit.
  func taken(_ chunk: Int) -> UInt64
}

extension BlockRuns {
  /// The first run of blocks at or after `block` that are wanted and not taken; it stays within one chunk.
  /// nil: none up to the end.
  ///
  /// - Parameter others: blocks that don't count; nil: none.
  public func nextRun(from block: Int, without others: PageBitmap? = nil) -> Range<Int>? {
    let wanted = wanted
    var chunk = wanted.firstWord(atOrAfter: max(block, 0) >> 6)
    while let index = chunk {
      var bits = wanted.word(index) & ~taken(index) & ~(others?.word(index) ?? 0)
      if index == max(block, 0) >> 6 { bits &= .max << UInt64(max(block, 0) & 63) }
      if bits != 0 {
        let first = bits.trailingZeroBitCount
        let length = (~(bits >> UInt64(first))).trailingZeroBitCount
        return (index << 6 + first)..<(index << 6 + min(first + length, 64))
      }
      chunk = wanted.firstWord(atOrAfter: index + 1)
    }
    return nil
  }

  /// The last run of blocks before `block` that are wanted and not taken.
  public func previousRun(before block: Int) -> Range<Int>? {
    let last = block - 1
    guard last >= 0 else { return nil }
    let wanted = wanted
    var chunk = wanted.lastWord(atOrBefore: last >> 6)
    while let index = chunk {
      var bits = wanted.word(index) & ~taken(index)
      if index == last >> 6 { bits &= .max >> UInt64(63 - last & 63) }
      if bits != 0 {
        let end = 64 - bits.leadingZeroBitCount
        let length = (~(bits << UInt64(64 - end))).leadingZeroBitCount
        return (index << 6 + max(end - length, 0))..<(index << 6 + end)
      }
      chunk = wanted.lastWord(atOrBefore: index - 1)
    }
    return nil
  }
}
