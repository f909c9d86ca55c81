/// What the snapshots at a destination hold, by a fast hash of each stored page: so that a page can be sent as a
/// reference to one that lay elsewhere, or in another guest.
///
/// A filter: what is found here is proven at the destination by the page's identity. Each snapshot has hashes with a seed
/// of its own, and is asked by itself. Of several pages with one hash the first counts.
///
/// Takes 16 to 24 bytes for each page, all of them from the beginning.
public struct VaultDirectory: Sendable {
  /// Pages of all snapshots together.
  public static let pagesMax: UInt64 = 1 << 31
  /// Slots that are looked at for one hash, so that hashes which were made up cost no more time than others.
  static let probesMax = 64

  /// By page, those of all snapshots in one row; 0: there is none, or it is not known yet.
  private var hashes: [UInt64]
  /// By hash: the number of a page in that row and 1 more; 0: free.
  private var slots: [UInt32]
  /// Numbers of each snapshot's pages.
  private let ranges: [Range<Int>]
  /// How many of each snapshot's pages are known.
  private var known: [Int]

  /// Bytes that one for so many pages takes.
  public static func byteCount(pages: UInt64) -> UInt64 {
    let pages = min(pages, pagesMax)
    return pages * 8 + slotCount(pages: pages) * UInt64(MemoryLayout<UInt32>.stride)
  }

  /// A power of two, so that at most every second is taken.
  private static func slotCount(pages: UInt64) -> UInt64 {
    var count: UInt64 = 64
    while count < pages * 2 { count *= 2 }
    return count
  }

  /// For snapshots with so many stored pages each; nil: there are more than `pagesMax`.
  public init?(pages: [UInt64]) {
    var ranges: [Range<Int>] = []
    var total: UInt64 = 0
    for count in pages {
      guard count <= Self.pagesMax - total else { return nil }
      ranges.append(Int(total)..<Int(total + count))
      total += count
    }
    self.ranges = ranges
    known = Array(repeating: 0, count: pages.count)
    hashes = Array(repeating: 0, count: Int(total))
    slots = Array(repeating: 0, count: Int(Self.slotCount(pages: total)))
  }

  /// How many of a snapshot's stored pages are known: the first ones.
  public func knownPages(of snapshot: Int) -> UInt64 { UInt64(known[snapshot]) }

  /// Takes the hashes of a snapshot's next stored pages; false, and nothing is taken: it has not so many.
  public mutating func add(_ next: some Collection<UInt64>, of snapshot: Int) -> Bool {
    let range = ranges[snapshot]
    guard next.count <= range.count - known[snapshot] else { return false }
    var number = range.lowerBound + known[snapshot]
    for hash in next {
      insert(hash, number, in: range)
      number += 1
    }
    known[snapshot] += next.count
    return true
  }

  private mutating func insert(_ hash: UInt64, _ number: Int, in range: Range<Int>) {
    guard hash != 0 else { return }
    var slot = Int(hash & UInt64(slots.count - 1))
    for _ in 0..<Self.probesMax {
      guard slots[slot] > 0 else {
        hashes[number] = hash
        // Below 2^31.
        slots[slot] = UInt32(number + 1)
        return
      }
      let other = Int(slots[slot]) - 1
      if hashes[other] == hash, range.contains(other) { return }
      slot = (slot + 1) & (slots.count - 1)
    }
    // No room near by: one page that is not found.
  }

  /// The number among a snapshot's stored pages of one whose content has this hash, as far as is known.
  public func find(_ hash: UInt64, in snapshot: Int) -> UInt64? {
    guard hash != 0 else { return nil }
    let range = ranges[snapshot]
    var slot = Int(hash & UInt64(slots.count - 1))
    for _ in 0..<Self.probesMax {
      guard slots[slot] > 0 else { return nil }
      let number = Int(slots[slot]) - 1
      if hashes[number] == hash, range.contains(number) {
        return UInt64(number - range.lowerBound)
      }
      slot = (slot + 1) & (slots.count - 1)
    }
    return nil
  }
}
