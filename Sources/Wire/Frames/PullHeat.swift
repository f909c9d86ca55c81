public import Base

/// The payload of a `pullHeat` frame, source to destination: pages of one block that are missing there and that the guest
/// has written in at least so many of the last 8 epochs of its dirty log. Once the guest has been handed over, and only
/// to a destination that knows of it. Like all frames of a pull it is not numbered; with new connections it is said again.
///
/// Layout: block u16, heat u8 (1 to 8), reserved u8 (0), run count u32, runs of 12 bytes (first page u64, pages u32). Runs
/// rise and don't overlap.
public struct PullHeat: Sendable, Hashable {
  /// Runs in one frame: 192 KiB.
  public static let runsMax = 16_384
  /// Pages in one frame; each costs its reader a step.
  public static let pagesMax: UInt64 = 65_536
  static let headByteCount = 8
  static let runByteCount = 12
  public static let byteCountMax = headByteCount + runsMax * runByteCount

  /// Index into the RAM block list of the stream.
  public let block: UInt16
  /// `1...8`.
  public let heat: UInt8
  /// In pages from the start of the block; `1...runsMax` of them, none empty, `pagesMax` pages at most.
  public let runs: [Range<UInt64>]

  /// - Precondition: `1...runsMax` runs and a heat in `1...8`; `pagesMax` is the caller's to keep.
  public init(block: UInt16, heat: UInt8, runs: [Range<UInt64>]) {
    precondition((1...Self.runsMax).contains(runs.count) && (1...8).contains(heat))
    (self.block, self.heat, self.runs) = (block, heat, runs)
  }

  /// Throws where the heat or a count is out of range, a run is empty, begins before the end of the
  /// one before it or at page 2^52 or above, all of them have more than `pagesMax` pages, or bytes
  /// follow.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    block = try cursor.readBE()
    heat = try cursor.readBE()
    let reserved = try cursor.readBE(UInt8.self)
    guard (1...8).contains(heat), reserved == 0 else {
      throw DecodeError(
        .badValue, in: "heat of pages", at: 2, found: UInt64(heat) << 8 | UInt64(reserved))
    }
    let count = Int(try cursor.readBE(UInt32.self))
    guard (1...Self.runsMax).contains(count) else {
      throw DecodeError(
        .overLimit, in: "runs of hot pages", at: 4, found: UInt64(count),
        limit: UInt64(Self.runsMax))
    }
    var runs: [Range<UInt64>] = []
    runs.reserveCapacity(count)
    var pages: UInt64 = 0
    for _ in 0..<count {
      let start = UInt64(cursor.position)
      let first: UInt64 = try cursor.readBE()
      let length = UInt64(try cursor.readBE(UInt32.self))
      pages += length
      guard length > 0, first < 1 << 52, runs.last.map({ first >= $0.upperBound }) ?? true,
        pages <= Self.pagesMax
      else { throw DecodeError(.badValue, in: "run of hot pages", at: start, found: first) }
      runs.append(first..<first + length)
    }
    self.runs = runs
    try cursor.expectEnd(of: "hot pages")
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(block)
    out.append(heat)
    out.append(0)
    out.appendBE(UInt32(truncatingIfNeeded: runs.count))  // <= runsMax
    for run in runs {
      out.appendBE(run.lowerBound)
      out.appendBE(UInt32(truncatingIfNeeded: run.upperBound - run.lowerBound))
    }
  }
}
