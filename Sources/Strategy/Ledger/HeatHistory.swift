import Base

/// In which of the last 8 epochs, the running one included, each page was dirtied: one byte per page.
///
/// A page's *heat* is the number of them, `0...8`. The bits of 64 pages for all 8 epochs lie in one cache
/// line, so a look at a page's heat costs one miss. Turning an epoch over costs what the oldest one held.
public struct HeatHistory: Sendable {
  /// Epochs remembered.
  public static let epochCount = 8

  /// Word `group * 8 + slot`: pages of the group dirtied in the epoch of the slot.
  private var words: [UInt64]
  /// Groups with any page in a slot.
  private var touched: [PageBitmap]
  /// Slot of the epoch that runs.
  private var slot = 0

  /// - Parameter count: page numbers described.
  public init(count: Int) {
    let groups = (count + 63) / 64
    words = Array(repeating: 0, count: groups * Self.epochCount)
    touched = (0..<Self.epochCount).map { _ in PageBitmap(count: groups) }
  }

  /// Bytes of memory that its bits take.
  var storedByteCount: Int {
    touched.reduce(words.capacity * 8) { $0 + $1.storedByteCount }
  }

  /// The page was dirtied in the epoch that runs; says whether for the first time.
  public mutating func note(_ page: Int) -> Bool {
    let bit: UInt64 = 1 << UInt64(page & 63)
    let index = (page >> 6) * Self.epochCount + slot
    guard words[index] & bit == 0 else { return false }
    if words[index] == 0 { _ = touched[slot].insert(page >> 6) }
    words[index] |= bit
    return true
  }

  /// Begins a new epoch; the oldest is forgotten.
  public mutating func turnOver() {
    slot = (slot + 1) % Self.epochCount
    var next = touched[slot].first(atOrAfter: 0)
    while let group = next {
      words[group * Self.epochCount + slot] = 0
      next = touched[slot].first(atOrAfter: group + 1)
    }
    touched[slot].removeAll()
  }

  /// `0...8`; what the running epoch has shown so far is in it.
  public func heat(of page: Int) -> UInt8 {
    let base = (page >> 6) * Self.epochCount
    let shift = UInt64(page & 63)
    var sum: UInt64 = 0
    for index in base..<(base + Self.epochCount) { sum += words[index] >> shift & 1 }
    return UInt8(truncatingIfNeeded: sum)
  }

  /// The heats of the 64 pages of a group, bit-sliced: four masks, the weights 1, 2, 4 and 8.
  ///
  /// Counting all 64 at once is what makes a look at every owed page affordable.
  func slices(group: Int) -> (one: UInt64, two: UInt64, four: UInt64, eight: UInt64) {
    var (one, two, four, eight): (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    let base = group * Self.epochCount
    for index in base..<(base + Self.epochCount) {
      var carry = words[index]
      (one, carry) = (one ^ carry, one & carry)
      (two, carry) = (two ^ carry, two & carry)
      (four, carry) = (four ^ carry, four & carry)
      eight |= carry
    }
    return (one, two, four, eight)
  }

  /// Pages of a group whose heat is at least `heat`.
  public func mask(group: Int, atLeast heat: UInt8) -> UInt64 {
    guard heat > 0 else { return .max }
    guard heat <= 8 else { return 0 }
    let (one, two, four, eight) = slices(group: group)
    // Compares the sliced numbers with `heat`, from the highest bit down.
    var (above, equal): (UInt64, UInt64) = (0, .max)
    for (slice, weight) in [(eight, 8), (four, 4), (two, 2), (one, 1)] as [(UInt64, UInt8)] {
      if heat & weight != 0 {
        equal &= slice
      } else {
        above |= equal & slice
        equal &= ~slice
      }
    }
    return above | equal
  }
}
