import Base
import Testing

@Suite struct PageRunTests {
  /// Bitmaps with runs of all lengths, beside plain arrays that say the same.
  private func sample(_ seed: UInt64) -> (PageBitmap, [Bool]) {
    var random = SplitMix64(seed: seed)
    let count = Int.random(in: 0...9000, using: &random)
    var (bitmap, plain) = (PageBitmap(count: count), [Bool](repeating: false, count: count))
    var page = 0
    while page < count {
      let length = Int.random(
        in: 1...[2, 70, 300, 5000].randomElement(using: &random)!, using: &random)
      let isSet = Bool.random(using: &random)
      for page in page..<min(page + length, count) where isSet {
        bitmap[page] = true
        plain[page] = true
      }
      page += length
    }
    return (bitmap, plain)
  }

  @Test(arguments: UInt64(1)...100) func runsAreThoseOfAPlainArray(seed: UInt64) {
    let (bitmap, plain) = sample(seed)
    var random = SplitMix64(seed: seed + 1000)
    for _ in 0..<100 {
      let page = Int.random(in: -1...max(plain.count, 1), using: &random)
      let limit = Int.random(in: 0...400, using: &random)
      let isPage = plain.indices.contains(page)
      var (up, down) = (page, page)
      while plain.indices.contains(up), plain[up], up - page < limit { up += 1 }
      while plain.indices.contains(down), plain[down], page - down < limit { down -= 1 }
      let run = bitmap.run(from: page, limit: limit)
      #expect(up > page ? run == page..<up : run.isEmpty, "seed \(seed), \(page)")
      let ending = bitmap.run(endingAt: page, limit: limit)
      #expect(
        isPage && down < page ? ending == down + 1..<page + 1 : ending.isEmpty,
        "seed \(seed), \(page)")
      let last = isPage ? plain[...page].lastIndex(of: true) : plain.lastIndex(of: true)
      #expect(bitmap.last(atOrBefore: page) == (page < 0 ? nil : last), "seed \(seed), \(page)")
    }
  }
}
