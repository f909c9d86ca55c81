/// Pages that are looked at in place of all of RAM: one at random out of each of equally many neighbours. Pure.
public struct PageSample: Sendable, Equatable {
  /// Pages of RAM that the sample stands for.
  public let ramPages: UInt64
  /// Numbers below `ramPages`, rising.
  public private(set) var pages: [UInt64]

  /// - Parameter count: pages to look at, at most `ramPages` of them are.
  public init<R: RandomNumberGenerator>(of ramPages: UInt64, count: Int, using random: inout R) {
    self.ramPages = ramPages
    let count = min(UInt64(max(count, 0)), ramPages)
    pages = (0..<count).map { number in
      let first = ramPages.scaled(by: number, over: count)
      let end = ramPages.scaled(by: number + 1, over: count)
      return first + random.next(upperBound: end - first)
    }
  }

  /// Keeps one page of each `step`, where looking at all of them takes too long.
  public mutating func thin(_ step: Int) {
    pages = stride(from: 0, to: pages.count, by: max(step, 1)).map { pages[$0] }
  }
}
