import Base

/// Bubbling (Hines and Gopalan 2009): pages around the last fault are asked for before others, in a
/// window that grows both ways from this pivot, and moves to each new fault. Pure.
struct PrefetchWindow: Sendable {
  /// Where the window grows next: downwards from `below`, upwards from `above`. nil: that side has
  /// reached the end of its block, or of what is wanted there.
  private var below: Int?
  private var above: Int?
  private var growsUp = true
  /// Numbers of the pivot's block.
  private var bounds = 0..<0

  /// Begins around `page`, whose block has the numbers `bounds`.
  mutating func move(to page: Int, in bounds: Range<Int>) {
    (below, above, self.bounds) = (page - 1, page + 1, bounds)
    growsUp = true
  }

  /// The next wanted pages, alternately above and below; nil when there are none left in the block.
  ///
  /// - Parameter limit: most pages at once, at least 1.
  mutating func next(of wanted: PageBitmap, limit: Int) -> Range<Int>? {
    for _ in 0..<2 {
      let run = growsUp ? up(wanted, limit) : down(wanted, limit)
      growsUp.toggle()
      if let run { return run }
    }
    return nil
  }

  private mutating func up(_ wanted: PageBitmap, _ limit: Int) -> Range<Int>? {
    guard let from = above, let page = wanted.first(atOrAfter: from), bounds.contains(page) else {
      above = nil
      return nil
    }
    let run = wanted.run(from: page, limit: limit)
    above = run.upperBound
    return run
  }

  private mutating func down(_ wanted: PageBitmap, _ limit: Int) -> Range<Int>? {
    guard let from = below, let page = wanted.last(atOrBefore: from), bounds.contains(page) else {
      below = nil
      return nil
    }
    let run = wanted.run(endingAt: page, limit: limit)
    below = run.lowerBound - 1
    return run
  }
}
