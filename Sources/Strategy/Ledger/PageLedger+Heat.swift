import Base

extension PageLedger {
  /// Owed pages that were dirtied since the start and whose heat is in `heat`, in rising runs; from the lowest number on
  /// as far as the limits go. Costs O(words with owed dirty pages).
  ///
  /// - Parameters:
  ///   - runsMax: most runs.
  ///   - pagesMax: most pages of all of them together.
  public func owedRuns(
    heat: ClosedRange<UInt8>, runsMax: Int, pagesMax: Int
  ) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    var left = pagesMax
    var next = dirty.firstWord(atOrAfter: 0)
    while let group = next {
      var pages = dirty.word(group) & history.mask(group: group, atLeast: heat.lowerBound)
      if heat.upperBound < 8 { pages &= ~history.mask(group: group, atLeast: heat.upperBound + 1) }
      while pages != 0 {
        let page = group << 6 + pages.trailingZeroBitCount
        pages &= pages - 1
        guard left > 0 else { return runs }
        left -= 1
        if let last = runs.last, last.upperBound == page {
          runs[runs.count - 1] = last.lowerBound..<page + 1
        } else {
          guard runs.count < runsMax else { return runs }
          runs.append(page..<page + 1)
        }
      }
      next = dirty.firstWord(atOrAfter: group + 1)
    }
    return runs
  }
}
