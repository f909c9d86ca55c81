import Base

/// Numbers the frames at the source and places barriers so that no two frames between barriers
/// carry the same page (the other half of I4; see `ApplyOrder`).
///
/// Memory: one bit per guest page. A barrier costs O(pages since the last one).
public struct BarrierTracker: Sendable {
  private var seen: [PageBitmap]
  /// The barrier that frames of this generation carry.
  private var after: UInt64 = 0
  /// Last sequence handed out.
  public private(set) var lastSequence: UInt64 = 0

  /// - Parameter blockPages: pages of each RAM block.
  public init(blockPages: [Int]) { seen = blockPages.map { PageBitmap(count: $0) } }

  /// Learns the RAM blocks, which the stream names after its first frames are numbered.
  public mutating func setBlocks(pages: [Int]) {
    seen = pages.map { PageBitmap(count: $0) }
  }

  /// Notes the pages of a whole frame, which all differ: behind a barrier where one of them went in this
  /// generation already. Says whether it placed one.
  @discardableResult public mutating func note(_ runs: [PageRun]) -> Bool {
    guard !insert(runs) else { return false }
    placeBarrier()
    _ = insert(runs)
    return true
  }

  /// Says whether all of them were new; stops at the first that was not.
  private mutating func insert(_ runs: [PageRun]) -> Bool {
    for run in runs {
      let first = Int(run.firstPage)
      for page in first..<(first + Int(run.count)) {
        guard seen[Int(run.block)].insert(page) else { return false }
      }
    }
    return true
  }

  /// Notes that the frame under construction carries a page.
  ///
  /// False: the page is already in this generation. Close the frame under construction, call
  /// `placeBarrier`, and note the page again.
  public mutating func note(block: Int, page: Int) -> Bool {
    seen[block].insert(page)
  }

  /// Everything numbered from now on waits for everything numbered until now.
  public mutating func placeBarrier() {
    after = lastSequence
    for block in seen.indices { seen[block].removeAll() }
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
