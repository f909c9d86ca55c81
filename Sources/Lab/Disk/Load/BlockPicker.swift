import Base

/// Which of its blocks a client's thread uses next. Pure: the generator decides.
struct BlockPicker {
  let pattern: MatrixDisk.Load.Pattern
  /// At least 1.
  let count: UInt64
  /// The first of them, which most operations of `hotspot` go to; at least 1.
  let hotCount: UInt64
  private var last: UInt64 = .max

  /// - Parameter hot: the first of the blocks; nil: a tenth of them.
  init(_ pattern: MatrixDisk.Load.Pattern, count: UInt64, hot: UInt64? = nil) {
    (self.pattern, self.count) = (pattern, max(count, 1))
    hotCount = min(max(hot ?? count / 10, 1), self.count)
  }

  mutating func next(_ random: inout SplitMix64) -> UInt64 {
    switch pattern {
    case .uniform: return random.next() % count
    case .sequential:
      last = (last &+ 1) % count
      return last
    case .hotspot:
      return random.next() % 10 < 9 ? random.next() % hotCount : random.next() % count
    }
  }
}
