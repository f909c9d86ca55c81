import Base

/// What the copy of a disk at the destination holds, by a fast hash of each block, made in pieces in any order while the
/// blocks go by: so that a page of the guest can be sent as a reference to a block.
///
/// A filter: what is found here is proven at the destination by the page's identity. A block that is written again is found
/// by its new content alone; one time in 255 by the old one too, and then asked for.
///
/// Takes a byte for each block of the disk, and at most 22 for each content that it has room for.
public struct CopiedBlocks: Sendable {
  private struct Entry: Sendable {
    /// A part of the hash, never 0; 0: free.
    var tag: UInt32 = 0
    var block: UInt32 = 0
  }

  /// Entries in which a content may stand.
  private static let ways = 8
  private static let entriesMin = 1024

  /// By block: a part of the tag of its content, never 0; 0: not known.
  private var checks: [UInt8]
  /// Sets of `ways`, one after the other.
  private var entries: [Entry]

  /// Nil where the disk is too large: half of the memory goes to its blocks, whatever they hold.
  ///
  /// - Parameters:
  ///   - byteCount: of the disk.
  ///   - takenBytes: what of that holds something, as far as is known.
  ///   - byteLimit: memory for all of it. Where it has no room for every content, one pushes out another.
  public init?(byteCount: UInt64, takenBytes: UInt64, byteLimit: UInt64) {
    let blocks = ImageLimits.blocks(of: byteCount)
    guard byteCount <= ImageLimits.imageBytesMax, blocks > 0, blocks <= byteLimit / 2 else {
      return nil
    }
    let room = (byteLimit - blocks) / UInt64(MemoryLayout<Entry>.stride)
    // At most three of four taken: sets of eight then have room for 24 of 25 contents, and more.
    let wanted = ImageLimits.blocks(of: min(takenBytes, byteCount)) / 3 * 4
    var count = Self.entriesMin
    while UInt64(count) < wanted, UInt64(count) * 2 <= room { count *= 2 }
    guard UInt64(count) <= room else { return nil }
    checks = Array(repeating: 0, count: Int(blocks))
    entries = Array(repeating: Entry(), count: count)
  }

  /// Bytes that it takes.
  public var byteCount: UInt64 {
    UInt64(checks.count) + UInt64(entries.count * MemoryLayout<Entry>.stride)
  }

  /// Takes a change in, in the order of the writes. Blocks beyond the disk are left out; forgetting
  /// costs O(blocks) of the range.
  public mutating func apply(_ change: BlockCutter.Change) {
    switch change {
    case .holds(let block, let hash): holds(block, hash)
    case .unknown(let blocks):
      let end = min(blocks.upperBound, UInt64(checks.count))
      guard blocks.lowerBound < end else { return }
      for block in Int(blocks.lowerBound)..<Int(end) { checks[block] = 0 }
    }
  }

  /// A block whose content has this hash, as far as is known.
  public func find(_ hash: UInt64) -> UInt32? {
    let tag = Self.tag(hash)
    for index in candidates(hash) where entries[index].tag == tag && isGood(entries[index]) {
      return entries[index].block
    }
    return nil
  }

  private mutating func holds(_ block: UInt64, _ hash: UInt64) {
    guard block < UInt64(checks.count) else { return }
    let tag = Self.tag(hash)
    checks[Int(block)] = Self.check(tag)
    let candidates = candidates(hash)
    var place = candidates.lowerBound + Int(hash >> 61)  // of what is good, one by lot
    var isFree = false
    for index in candidates {
      let isGood = isGood(entries[index])
      // Each content once: the first block that still has it.
      if isGood, entries[index].tag == tag { return }
      if !isGood, !isFree { (place, isFree) = (index, true) }
    }
    // Below 2^32, as the disk has no more.
    entries[place] = Entry(tag: tag, block: UInt32(truncatingIfNeeded: block))
  }

  /// Whether the block still has the content, or one that looks like it.
  private func isGood(_ entry: Entry) -> Bool {
    entry.tag != 0 && checks[Int(entry.block)] == Self.check(entry.tag)
  }

  private func candidates(_ hash: UInt64) -> Range<Int> {
    let first = Int(hash & UInt64(entries.count / Self.ways - 1)) * Self.ways
    return first..<first + Self.ways
  }

  private static func tag(_ hash: UInt64) -> UInt32 {
    max(UInt32(truncatingIfNeeded: hash >> 32), 1)
  }

  private static func check(_ tag: UInt32) -> UInt8 { max(UInt8(truncatingIfNeeded: tag), 1) }
}
