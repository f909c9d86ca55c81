import Base
import Compaction

/// How many pages of a guest that are the same as one sent before are found as that: contents that meet in the directory
/// push each other out.
enum Duplicates {
  /// Of 1 GiB.
  private static let pageCount = 1 << 18

  static func measureAll() {
    print("duplicates among \(pageCount) pages in any order:")
    for percent in [10, 50, 90] {
      let (twice, found, time) = measure(percent)
      let share = found * 1000 / max(twice, 1)
      print(
        "  \(percent) % of the pages: \(share) thousandths found, \(rate(time, pageCount)) thousand pages a second"
      )
    }
  }

  /// - Parameter percent: of the pages, that are the same as another one.
  private static func measure(_ percent: Int) -> (twice: Int, found: Int, Duration) {
    var random = SplitMix64(seed: UInt64(percent))
    let distinct = pageCount * (100 - percent) / 100
    let contents = (0..<pageCount).map { $0 % max(distinct, 1) }.shuffled(using: &random)
    let hashes = contents.map { content in
      var hash = SplitMix64(seed: UInt64(content))
      return hash.next()
    }
    // Enough for the directory, and little for contents, which play no part here.
    var memory = SentMemory(
      blockPages: [pageCount], isReadable: [true], byteLimit: UInt64(pageCount) * 128)
    let page = [UInt8](repeating: 1, count: Page.size)
    var seen = [Bool](repeating: false, count: pageCount)
    var (twice, found) = (0, 0)
    let start = ContinuousClock().now
    for (number, hash) in hashes.enumerated() {
      let reference = memory.duplicate(hash, for: UInt64(number) + 2)
      if seen[contents[number]] {
        twice += 1
        found += reference == nil ? 0 : 1
      }
      seen[contents[number]] = true
      // SAFETY: a view of initialized bytes, which outlive the call.
      unsafe memory.sent(
        block: 0, page: UInt64(number), page.span.bytes, hash: hash, sequence: UInt64(number) + 1)
    }
    return (twice, found, ContinuousClock().now - start)
  }
}
