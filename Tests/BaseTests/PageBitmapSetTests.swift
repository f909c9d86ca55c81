import Base
import Testing

/// Bitmaps held against each other, beside a set that is gone through page by page.
@Suite struct PageBitmapSetTests {
  private func bitmap(_ pages: Set<Int>, count: Int) -> PageBitmap {
    var bitmap = PageBitmap(count: count)
    for page in pages { bitmap[page] = true }
    return bitmap
  }

  @Test(arguments: UInt64(1)...50) func theyAreSets(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let count = Int.random(in: 1...20_000, using: &random)
    let most = Int.random(in: 0...count, using: &random)
    let sets = (0..<2).map { _ in
      Set((0..<most).map { _ in Int.random(in: 0..<count, using: &random) })
    }
    var both = bitmap(sets[0], count: count)
    both.formIntersection(bitmap(sets[1], count: count))
    #expect(both == bitmap(sets[0].intersection(sets[1]), count: count), "seed \(seed)")
    var rest = bitmap(sets[0], count: count)
    rest.subtract(bitmap(sets[1], count: count))
    #expect(rest == bitmap(sets[0].subtracting(sets[1]), count: count), "seed \(seed)")
    #expect(both.population + rest.population == sets[0].count, "seed \(seed)")
  }
}
