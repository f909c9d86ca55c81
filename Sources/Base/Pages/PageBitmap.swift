/// One bit per page of a RAM block, one word per 64 pages.
///
/// Invariant: bits at or above `count` are zero.
public struct PageBitmap: Sendable, Equatable {
  /// Pages described.
  public let count: Int
  @usableFromInline var words: [UInt64]

  public init(count: Int, filled: Bool = false) {
    precondition(count >= 0)
    self.count = count
    words = Array(repeating: filled ? .max : 0, count: (count + 63) / 64)
    if filled, count % 64 != 0 { words[words.count - 1] = (1 << UInt64(count % 64)) - 1 }
  }

  @inlinable public subscript(page: Int) -> Bool {
    get { words[page >> 6] & (1 << UInt64(page & 63)) != 0 }
    set {
      precondition(page < count)
      let bit: UInt64 = 1 << UInt64(page & 63)
      if newValue { words[page >> 6] |= bit } else { words[page >> 6] &= ~bit }
    }
  }

  /// Sets the bit; says whether it was clear before.
  @inlinable public mutating func insert(_ page: Int) -> Bool {
    precondition(page < count)
    let bit: UInt64 = 1 << UInt64(page & 63)
    guard words[page >> 6] & bit == 0 else { return false }
    words[page >> 6] |= bit
    return true
  }

  /// Bits set.
  public var population: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

  public mutating func removeAll() { for index in words.indices { words[index] = 0 } }

  /// The first set bit at or above `page`, or nil.
  public func first(atOrAfter page: Int) -> Int? {
    guard page < count else { return nil }
    var index = page >> 6
    var word = words[index] & (UInt64.max << UInt64(page & 63))
    while word == 0 {
      index += 1
      guard index < words.count else { return nil }
      word = words[index]
    }
    return (index << 6) + word.trailingZeroBitCount
  }
}
