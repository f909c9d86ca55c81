/// Where the destination holds which content, by a fast hash: the oldest place that is still good, so that
/// frames that name it wait for one that has long been applied.
///
/// A filter: what is found here is proven by the page's identity before anybody uses it. Takes 4 bytes for
/// each page of the guest, and at most 24 MiB besides.
struct SentDirectory: Sendable {
  private struct Entry: Sendable {
    var hash: UInt64 = 0
    var number = 0
    var sequence: UInt64 = 0
  }

  static let entriesMax = 1 << 20

  /// By page: of the content that was sent last a part of the hash, never 0; 0: not known.
  private var tags: [UInt32]
  private var entries: [Entry]

  /// Bytes that one for so many pages takes.
  static func byteCount(pages: Int) -> UInt64 {
    // A bit a page is `SentMemory`'s own.
    UInt64(pages) * 4 + UInt64(pages / 8)
      + UInt64(entryCount(pages: pages) * MemoryLayout<Entry>.stride)
  }

  private static func entryCount(pages: Int) -> Int {
    var count = 64
    while count < min(pages, entriesMax) { count *= 2 }
    return count
  }

  init(pages: Int) {
    tags = Array(repeating: 0, count: pages)
    entries = Array(repeating: Entry(), count: Self.entryCount(pages: pages))
  }

  private static func tag(_ hash: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: hash >> 32) | 1 }

  /// A page that was sent with this content, and in which frame.
  func find(_ hash: UInt64) -> (number: Int, sequence: UInt64)? {
    let entry = entries[Int(hash & UInt64(entries.count - 1))]
    guard entry.sequence > 0, entry.hash == hash, tags[entry.number] == Self.tag(hash) else {
      return nil
    }
    return (entry.number, entry.sequence)
  }

  mutating func sent(_ number: Int, _ hash: UInt64, sequence: UInt64) {
    tags[number] = Self.tag(hash)
    let index = Int(hash & UInt64(entries.count - 1))
    let old = entries[index]
    let isGood = old.sequence > 0 && old.hash == hash && tags[old.number] == Self.tag(hash)
    if isGood, old.number != number { return }
    entries[index] = Entry(hash: hash, number: number, sequence: sequence)
  }

  /// The page is sent again, with whatever content.
  mutating func forget(_ numbers: Range<Int>) { for number in numbers { tags[number] = 0 } }
}
