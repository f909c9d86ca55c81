public import Base

/// What nobody has taken yet.
extension PullMap: BlockRuns {
  public var wanted: PageBitmap { missing }

  public func taken(_ chunk: Int) -> UInt64 {
    let blocks = (chunk << 6)..<(chunk << 6 + 64)
    return activities.reduce(0) { bits, activity in
      let part = activity.ticket.blocks.clamped(to: blocks)
      guard !part.isEmpty else { return bits }
      let ones: UInt64 = part.count == 64 ? .max : (1 << UInt64(part.count)) - 1
      return bits | ones << UInt64(part.lowerBound & 63)
    }
  }
}

/// What a request needs.
extension PullMap {
  /// Blocks that a request may fetch at once: 256 KiB.
  public static let runBlocksMax = 64

  /// Those of `blocks` that are missing and that nobody brings: the first run of them.
  public func freeRun(in blocks: Range<Int>) -> Range<Int>? {
    guard var run = nextRun(from: blocks.lowerBound), run.lowerBound < blocks.upperBound else {
      return nil
    }
    // A run ends with its chunk; a request needn't.
    if run.upperBound & 63 == 0, let next = nextRun(from: run.upperBound),
      next.lowerBound == run.upperBound
    {
      run = run.lowerBound..<next.upperBound
    }
    return run.clamped(to: blocks).prefix(Self.runBlocksMax)
  }

  /// Where the beginning of a range is.
  public enum Place: Sendable, Equatable {
    case here(Range<Int>)
    /// Nothing of it is being stored or written.
    case missing(Range<Int>)
    /// It will be here in a moment.
    case busy
  }

  /// - Precondition: `blocks` is not empty.
  public func place(of blocks: Range<Int>) -> Place {
    let first = blocks.lowerBound
    guard missing[first] else {
      let end = missing.first(atOrAfter: first) ?? blocks.upperBound
      return .here(first..<min(end, blocks.upperBound))
    }
    guard !isBusy(first) else { return .busy }
    let end = blocks.prefix(Self.runBlocksMax).first { !missing[$0] || isBusy($0) }
    return .missing(first..<(end ?? blocks.prefix(Self.runBlocksMax).upperBound))
  }

  /// Blocks of which one look says whether they are missing: 1 GiB.
  private static let extentBlocksMax = 1 << 18

  /// The beginning of a range that is here, or is not, as a whole.
  ///
  /// - Precondition: `blocks` is not empty.
  public func extent(of blocks: Range<Int>) -> (blocks: Range<Int>, isHere: Bool) {
    let (first, isMissing) = (blocks.lowerBound, missing[blocks.lowerBound])
    let looked = blocks.prefix(Self.extentBlocksMax)
    let end =
      isMissing ? looked.first(where: { !missing[$0] }) : missing.first(atOrAfter: first)
    return (first..<min(end ?? looked.upperBound, looked.upperBound), !isMissing)
  }

  /// Whether the block is missing only until something here has ended.
  private func isBusy(_ block: Int) -> Bool {
    activities.contains { $0.kind != .fetch && $0.ticket.blocks.contains(block) }
  }
}
