import Base

/// Numbers the frames at the source and places barriers so that no two frames between barriers
/// carry the same page (the other half of I4; see `ApplyOrder`).
///
/// Memory: one bit per guest page. A barrier costs O(pages since the last one).
public struct BarrierTracker: Sendable {
  /// Pages remembered one by one for a cheap clear; beyond it the bitmaps are cleared whole.
  static let touchedMax = 1 << 16

  private var seen: [PageBitmap]
  private var touched: [(block: Int, page: Int)] = []
  /// The barrier that frames of this generation carry.
  private var after: UInt64 = 0
  /// Last sequence handed out.
  public private(set) var lastSequence: UInt64 = 0

  /// - Parameter blockPages: pages of each RAM block.
  public init(blockPages: [Int]) { seen = blockPages.map { PageBitmap(count: $0) } }

  /// Learns the RAM blocks, which the stream names after its first frames are numbered.
  public mutating func setBlocks(pages: [Int]) {
    seen = pages.map { PageBitmap(count: $0) }
    touched.removeAll()
  }

  /// Notes that the frame under construction carries a page.
  ///
  /// False: the page is already in this generation. Close the frame under construction, call
  /// `placeBarrier`, and note the page again.
  public mutating func note(block: Int, page: Int) -> Bool {
    guard seen[block].insert(page) else { return false }
    if touched.count < Self.touchedMax { touched.append((block, page)) }
    return true
  }

  /// Everything numbered from now on waits for everything numbered until now.
  public mutating func placeBarrier() {
    after = lastSequence
    if touched.count < Self.touchedMax {
      for (block, page) in touched { seen[block][page] = false }
    } else {
      for block in seen.indices { seen[block].removeAll() }
    }
    touched.removeAll(keepingCapacity: true)
  }

  /// The place of the frame that is complete now.
  public mutating func nextPlace() -> SequencedHeader {
    lastSequence += 1
    return SequencedHeader(sequence: lastSequence, after: after)
  }

  /// The place of a frame that must be applied alone: after all before it, before all behind it.
  public mutating func nextExclusivePlace() -> SequencedHeader {
    placeBarrier()
    let place = nextPlace()
    after = place.sequence
    return place
  }
}
