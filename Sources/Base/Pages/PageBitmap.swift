/// A set of pages: one bit per page, one word per 64 pages, and above them one bit per word.
///
/// The upper level makes emptying and searching cost what is in the set, not how many pages there are:
/// a terabyte of guest RAM has 268 million of them.
///
/// Invariants: bits at or above `count` are zero; a word that is not zero has its bit in the upper
/// level set, and only such a word; `population` is the number of bits set.
public struct PageBitmap: Sendable, Equatable {
  /// Pages described.
  public let count: Int
  /// Bits set.
  public private(set) var population = 0
  private var words: [UInt64]
  private var summary: [UInt64]

  /// No page is set, or with `filled` every one. Costs one bit per page, and time in proportion.
  ///
  /// - Precondition: `count >= 0`.
  public init(count: Int, filled: Bool = false) {
    precondition(count >= 0)
    self.count = count
    words = Array(repeating: 0, count: (count + 63) / 64)
    summary = Array(repeating: 0, count: (words.count + 63) / 64)
    guard filled else { return }
    for index in words.indices { setWord(index, Self.mask(bits: count - index * 64)) }
  }

  /// Bytes of memory that its bits take, those of the upper level included.
  public var storedByteCount: Int { (words.capacity + summary.capacity) * 8 }

  /// Words of 64 pages each.
  public var wordCount: Int { words.count }

  /// Reading is one load and isn't held against `count`: pages up to the end of the last word read
  /// as clear, those behind it trap. Writing needs `page < count`.
  public subscript(page: Int) -> Bool {
    get { words[page >> 6] & (1 << UInt64(page & 63)) != 0 }
    set {
      if newValue { _ = insert(page) } else { _ = remove(page) }
    }
  }

  /// Sets the bit; says whether it was clear before.
  public mutating func insert(_ page: Int) -> Bool {
    precondition(page < count)
    let bit: UInt64 = 1 << UInt64(page & 63)
    let index = page >> 6
    guard words[index] & bit == 0 else { return false }
    if words[index] == 0 { summary[index >> 6] |= 1 << UInt64(index & 63) }
    words[index] |= bit
    population += 1
    return true
  }

  /// Clears the bit; says whether it was set before.
  public mutating func remove(_ page: Int) -> Bool {
    precondition(page < count)
    let bit: UInt64 = 1 << UInt64(page & 63)
    let index = page >> 6
    guard words[index] & bit != 0 else { return false }
    words[index] &= ~bit
    if words[index] == 0 { summary[index >> 6] &= ~(1 << UInt64(index & 63)) }
    population -= 1
    return true
  }

  /// Empties the set; costs what is in it.
  public mutating func removeAll() {
    guard population > 0 else { return }
    for upper in summary.indices where summary[upper] != 0 {
      var bits = summary[upper]
      while bits != 0 {
        words[upper << 6 + bits.trailingZeroBitCount] = 0
        bits &= bits - 1
      }
      summary[upper] = 0
    }
    population = 0
  }

  /// Clears every bit that is not set in `other`, which describes as many pages.
  public mutating func formIntersection(_ other: PageBitmap) {
    precondition(other.count == count)
    var next = firstWord(atOrAfter: 0)
    while let index = next {
      setWord(index, words[index] & other.words[index])
      next = firstWord(atOrAfter: index + 1)
    }
  }

  /// Clears every bit that is set in `other`, which describes as many pages.
  public mutating func subtract(_ other: PageBitmap) {
    precondition(other.count == count)
    var next = other.firstWord(atOrAfter: 0)
    while let index = next {
      if words[index] != 0 { setWord(index, words[index] & ~other.words[index]) }
      next = other.firstWord(atOrAfter: index + 1)
    }
  }

  /// The first set bit at or above `page`, or nil.
  public func first(atOrAfter page: Int) -> Int? {
    guard page < count else { return nil }
    let index = page >> 6
    let rest = words[index] & (UInt64.max << UInt64(page & 63))
    if rest != 0 { return index << 6 + rest.trailingZeroBitCount }
    guard let next = firstWord(atOrAfter: index + 1) else { return nil }
    return next << 6 + words[next].trailingZeroBitCount
  }

  /// The first word at or above `index` that is not zero, or nil.
  public func firstWord(atOrAfter index: Int) -> Int? {
    guard index < words.count else { return nil }
    var upper = index >> 6
    var bits = summary[upper] & (UInt64.max << UInt64(index & 63))
    while bits == 0 {
      upper += 1
      guard upper < summary.count else { return nil }
      bits = summary[upper]
    }
    return upper << 6 + bits.trailingZeroBitCount
  }

  /// The last word at or below `index` that is not zero, or nil.
  public func lastWord(atOrBefore index: Int) -> Int? {
    guard index >= 0, !words.isEmpty else { return nil }
    let index = min(index, words.count - 1)
    var upper = index >> 6
    var bits = summary[upper] & (UInt64.max >> UInt64(63 - index & 63))
    while bits == 0 {
      upper -= 1
      guard upper >= 0 else { return nil }
      bits = summary[upper]
    }
    return upper << 6 + 63 - bits.leadingZeroBitCount
  }

  /// Pages `64 * index ..< 64 * index + 64`, the lowest in the lowest bit.
  public func word(_ index: Int) -> UInt64 { words[index] }

  private mutating func setWord(_ index: Int, _ value: UInt64) {
    population += value.nonzeroBitCount - words[index].nonzeroBitCount
    words[index] = value
    let bit: UInt64 = 1 << UInt64(index & 63)
    if value == 0 { summary[index >> 6] &= ~bit } else { summary[index >> 6] |= bit }
  }

  /// The lowest `bits` bits, all when there are 64 or more.
  private static func mask(bits: Int) -> UInt64 {
    bits >= 64 ? .max : (1 << UInt64(max(bits, 0))) - 1
  }
}
