/// How many pages of RAM have some property, from how many of the sampled ones do. Pure.
public struct PageEstimate: Sendable, Hashable {
  public let pages: UInt64
  /// Nine tenths of such samples hold the true number in between (the score interval of Wilson, 1927).
  public let lowPages, highPages: UInt64

  /// 1.645 squared, in thousandths: a normal deviate is within ± 1.645 nine times of ten.
  private static let deviateSquared: UInt64 = 2706

  /// - Parameters:
  ///   - found: of the `sampled` pages, at most as many.
  ///   - sampled: pages looked at, at most 2^20; none: nothing is known.
  public init(found: UInt64, of sampled: UInt64, ramPages: UInt64) {
    guard sampled > 0 else {
      (pages, lowPages, highPages) = (0, 0, ramPages)
      return
    }
    let found = min(found, sampled)
    pages = ramPages.scaled(by: found, over: sampled)
    guard sampled < ramPages else {
      (lowPages, highPages) = (pages, pages)
      return
    }
    // (x + z²/2 ± z √(x (n − x) / n + z²/4)) / (n + z²), all in thousandths.
    let z2 = Self.deviateSquared
    let centre = found * 1000 + z2 / 2
    let variance = (found * (sampled - found)).scaled(by: 1_000_000, over: sampled) + z2 * 250
    let half = variance.scaled(by: z2, over: 1000).squareRootFloored
    let total = sampled * 1000 + z2
    lowPages = min(ramPages.scaled(by: centre.minusFloored(half), over: total), pages)
    highPages = max(min(ramPages.scaled(by: centre + half, over: total), ramPages), pages)
  }
}

extension UInt64 {
  /// The largest number whose square isn't above this one (Newton's method, from above).
  var squareRootFloored: UInt64 {
    guard self > 1 else { return self }
    var root: UInt64 = 1 << UInt64((64 - leadingZeroBitCount + 1) / 2)
    while true {
      let next = (root + self / root) / 2
      if next >= root { return root }
      root = next
    }
  }
}
