import Base

/// Which of its blocks a client's thread uses next. Pure: the generator decides.
struct BlockPicker {
  let pattern: MatrixDisk.Load.Pattern
  /// At least 1.
  let count: UInt64
  private var last: UInt64 = .max

  init(_ pattern: MatrixDisk.Load.Pattern, count: UInt64) {
    (self.pattern, self.count) = (pattern, max(count, 1))
  }

  mutating func next(_ random: inout SplitMix64) -> UInt64 {
    switch pattern {
    case .uniform: return random.next() % count
    case .sequential:
      last = (last &+ 1) % count
      return last
    case .hotspot:
      let hot = max(count / 10, 1)
      return random.next() % 10 < 9 ? random.next() % hot : random.next() % count
    }
  }
}
