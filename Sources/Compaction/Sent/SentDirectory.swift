import Base

/// Where the destination holds which content, by a fast hash: the oldest place that is still good, so that
/// frames that name it wait for one that has long been applied.
///
/// A filter: what is found here is proven by the page's identity before anybody uses it. Contents that meet in one set
/// of places push each other out; sets of six lose few of as many contents as the guest has pages. Takes 4 bytes for each
/// page of the guest, and at most 24 MiB besides.
struct SentDirectory: Sendable {
  private struct Entry: Sendable {
    /// 0: free.
    var sequence: UInt64 = 0
    /// A part of the hash, and the page.
    var tag: UInt32 = 0
    var number: UInt32 = 0
  }

  static let ways = 6
  static let setsMax = 1 << 18
  /// More than entries can tell apart.
  static let pagesMax = Int(UInt32.max)

  /// By page: of the content that was sent last a part of the hash, never 0; 0: not known.
  private var tags: [UInt32]
  /// Sets of `ways`, one after the other.
  private var entries: [Entry]

  /// Bytes that one for so many pages takes.
  static func byteCount(pages: Int) -> UInt64 {
    // A bit a page is `SentMemory`'s own.
    UInt64(pages) * 4 + UInt64(pages / 8)
      + UInt64(setCount(pages: pages) * ways * MemoryLayout<Entry>.stride)
  }

  /// A power of two, with at least as many entries as pages up to `setsMax`.
  private static func setCount(pages: Int) -> Int {
    var count = 16
    while count < min(pages / 4, setsMax) { count *= 2 }
    return count
  }

  /// - Parameter pages: at most `pagesMax`.
  init(pages: Int) {
    precondition(pages <= Self.pagesMax)
    tags = Array(repeating: 0, count: pages)
    entries = Array(repeating: Entry(), count: Self.setCount(pages: pages) * Self.ways)
  }

  private static func tag(_ hash: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: hash >> 32) | 1 }

  /// The entries that may have this hash.
  private func candidates(_ hash: UInt64) -> Range<Int> {
    let first = Int(hash & UInt64(entries.count / Self.ways - 1)) * Self.ways
    return first..<first + Self.ways
  }

  /// Whether the page still has the content.
  private func isGood(_ entry: Entry) -> Bool {
    entry.sequence > 0 && tags[Int(entry.number)] == entry.tag
  }

  /// A page that was sent with this content, and in which frame.
  func find(_ hash: UInt64) -> (number: Int, sequence: UInt64)? {
    let tag = Self.tag(hash)
    for index in candidates(hash) where entries[index].tag == tag {
      let entry = entries[index]
      if isGood(entry) { return (Int(entry.number), entry.sequence) }
    }
    return nil
  }

  mutating func sent(_ number: Int, _ hash: UInt64, sequence: UInt64) {
    let tag = Self.tag(hash)
    tags[number] = tag
    let candidates = candidates(hash)
    var isKnown = false
    for index in candidates where entries[index].tag == tag && isGood(entries[index]) {
      // This page may have had the content in an earlier frame, and another one since.
      if Int(entries[index].number) == number { entries[index].sequence = sequence }
      isKnown = true
    }
    guard !isKnown else { return }
    // A free place, that of a content which is no longer there, or the oldest one's.
    var place = candidates.lowerBound
    for index in candidates {
      guard isGood(entries[index]) else {
        place = index
        break
      }
      if entries[index].sequence < entries[place].sequence { place = index }
    }
    // Below `pagesMax`.
    entries[place] = Entry(sequence: sequence, tag: tag, number: UInt32(number))
  }

  /// The page is sent again, with whatever content.
  mutating func forget(_ numbers: Range<Int>) { for number in numbers { tags[number] = 0 } }
}
