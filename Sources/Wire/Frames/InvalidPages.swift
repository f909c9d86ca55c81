public import Base

/// The payload of an `invalidPages` frame, source to destination: pages of one block whose copy at the
/// destination is old or missing when the guest stops. Sequenced, so that it is applied behind all
/// pages that were sent before. Several frames make up the whole; the last one says so.
///
/// Layout: sequence u64, after u64, block u16, flags u8 (1: last), reserved u8 (0), run count u32, runs of
/// 12 bytes (first page u64, pages u32). Runs rise and don't overlap.
public struct InvalidPages: Sendable, Hashable {
  static let headByteCount = SequencedHeader.byteCount + 8
  static let runByteCount = 12
  public static let byteCountMax = headByteCount + PullLimits.invalidRunsMax * runByteCount

  public let place: SequencedHeader
  /// Index into the RAM block list of the stream.
  public let block: UInt16
  /// No further frame follows.
  public let isLast: Bool
  /// In pages from the start of the block; none empty, none longer than 2^32 - 1. Empty only where
  /// nothing is invalid at all.
  public let runs: [Range<UInt64>]

  /// - Precondition: `PullLimits.invalidRunsMax` runs at most, as `runs` describes them.
  public init(place: SequencedHeader, block: UInt16, isLast: Bool, runs: [Range<UInt64>]) {
    precondition(runs.count <= PullLimits.invalidRunsMax)
    (self.place, self.block, self.isLast, self.runs) = (place, block, isLast, runs)
  }

  /// Throws where flags aren't known, where the payload isn't as long as its count says, and where
  /// a run is empty, begins before the end of the one before it, or at page 2^52 or above.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    place = try SequencedHeader(decoding: &cursor)
    block = try cursor.readBE()
    let flags = try cursor.readBE(UInt8.self)
    let reserved = try cursor.readBE(UInt8.self)
    guard flags <= 1, reserved == 0 else {
      throw DecodeError(
        .badValue, in: "flags of invalid pages", at: UInt64(SequencedHeader.byteCount + 2),
        found: UInt64(flags) << 8 | UInt64(reserved))
    }
    isLast = flags == 1
    let count = Int(try cursor.readBE(UInt32.self))
    guard count <= PullLimits.invalidRunsMax else {
      throw DecodeError(
        .overLimit, in: "runs of invalid pages", at: UInt64(cursor.position - 4),
        found: UInt64(count), limit: UInt64(PullLimits.invalidRunsMax))
    }
    guard cursor.remaining == count * Self.runByteCount else {
      throw DecodeError(
        .truncated, in: "invalid pages", at: UInt64(cursor.position),
        found: UInt64(cursor.remaining), limit: UInt64(count * Self.runByteCount))
    }
    var runs: [Range<UInt64>] = []
    runs.reserveCapacity(count)
    for _ in 0..<count {
      let start = UInt64(cursor.position)
      let first: UInt64 = try cursor.readBE()
      let length = UInt64(try cursor.readBE(UInt32.self))
      guard length > 0, first < 1 << 52, runs.last.map({ first >= $0.upperBound }) ?? true else {
        throw DecodeError(.badValue, in: "run of invalid pages", at: start, found: first)
      }
      runs.append(first..<first + length)
    }
    self.runs = runs
  }

  public func encode(into out: inout [UInt8]) {
    place.encode(into: &out)
    out.appendBE(block)
    out.append(isLast ? 1 : 0)
    out.append(0)
    out.appendBE(UInt32(truncatingIfNeeded: runs.count))  // <= invalidRunsMax
    for run in runs {
      out.appendBE(run.lowerBound)
      out.appendBE(UInt32(truncatingIfNeeded: run.upperBound - run.lowerBound))
    }
  }

  /// The runs of one block's pages, cut into frames' worth.
  ///
  /// - Parameters:
  ///   - pages: one bit per page, the block's in `range`.
  public static func runs(
    of pages: PageBitmap, in range: Range<Int>, perFrame limit: Int = PullLimits.invalidRunsMax
  ) -> [[Range<UInt64>]] {
    var frames: [[Range<UInt64>]] = []
    var next = range.lowerBound
    while let first = pages.first(atOrAfter: next), first < range.upperBound {
      // A run's length has 32 bits.
      let run = pages.run(from: first, limit: min(range.upperBound - first, Int(UInt32.max)))
      if frames.isEmpty || frames[frames.count - 1].count == limit { frames.append([]) }
      frames[frames.count - 1].append(
        UInt64(run.lowerBound - range.lowerBound)..<UInt64(run.upperBound - range.lowerBound))
      next = run.upperBound
    }
    return frames
  }
}
