/// Pages next to each other.
extension PageBitmap {
  /// The last set bit at or below `page`, or nil.
  public func last(atOrBefore page: Int) -> Int? {
    guard page >= 0, count > 0 else { return nil }
    let page = min(page, count - 1)
    let index = page >> 6
    let rest = word(index) & (UInt64.max >> UInt64(63 - page & 63))
    if rest != 0 { return index << 6 + 63 - rest.leadingZeroBitCount }
    guard let before = lastWord(atOrBefore: index - 1) else { return nil }
    return before << 6 + 63 - word(before).leadingZeroBitCount
  }

  /// The set bits from `page` on without a gap, at most `limit`; empty when `page` is clear or no page.
  public func run(from page: Int, limit: Int) -> Range<Int> {
    guard (0..<count).contains(page), limit > 0 else { return 0..<0 }
    let end = page + min(limit, count - page)
    var next = page
    while next < end {
      let ones = (~(word(next >> 6) >> UInt64(next & 63))).trailingZeroBitCount
      next += ones
      // Fewer than the word had left: the run ends here.
      guard ones > 0, next & 63 == 0 else { break }
    }
    return page..<min(next, end)
  }

  /// The set bits up to and with `page` without a gap, at most `limit`; empty when `page` is clear or no
  /// page.
  public func run(endingAt page: Int, limit: Int) -> Range<Int> {
    guard (0..<count).contains(page), limit > 0 else { return 0..<0 }
    let start = page - min(limit - 1, page)
    var first = page + 1
    while first > start {
      let last = first - 1
      let ones = (~(word(last >> 6) << UInt64(63 - last & 63))).leadingZeroBitCount
      first -= ones
      guard ones > 0, first & 63 == 0 else { break }
    }
    return max(first, start)..<(page + 1)
  }
}
