import Base

/// Where in RAM pages of zeros lie, from one look at a sample. Pure.
///
/// A scan goes through RAM in the order of its pages, and zeros cost it next to nothing. They are seldom
/// spread evenly, so how fast a scan went says little of how long the rest of it takes.
public struct ContentProfile: Sendable, Equatable {
  public let ramPages: UInt64
  /// Numbers of the sampled pages, rising.
  private let pages: [UInt64]
  /// By sampled page: how many from it on hold something other than zeros; one more, 0, at the end.
  private let fullFrom: [UInt64]

  /// - Parameter isZero: by page of the sample.
  public init?(_ sample: PageSample, isZero: [Bool]) {
    guard isZero.count == sample.pages.count, !isZero.isEmpty else { return nil }
    (ramPages, pages) = (sample.ramPages, sample.pages)
    var fullFrom: [UInt64] = [0]
    for isZero in isZero.reversed() {
      fullFrom.append(fullFrom[fullFrom.count - 1] + (isZero ? 0 : 1))
    }
    self.fullFrom = fullFrom.reversed()
  }

  /// Pages with contents expected among those from `page` on, of `ramPages`; `total` pages are in all
  /// of RAM, those that nobody could look at among them.
  public func contentPages(from page: UInt64, of total: UInt64) -> UInt64 {
    guard page < total, total > 0 else { return 0 }
    let first = page.scaled(by: ramPages, over: total)
    let index = pages.partitioningIndex { $0 >= first }
    let looked = UInt64(pages.count - index)
    // Behind the last page that was looked at: as the end of what was.
    guard looked > 0 else { return fullFrom[pages.count - 1] > 0 ? total - page : 0 }
    return (total - page).scaled(by: fullFrom[index], over: looked)
  }
}

extension [UInt64] {
  /// Index of the first element that `isBehind` holds for, as it does for all after it.
  fileprivate func partitioningIndex(_ isBehind: (UInt64) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if isBehind(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
