public import Base

/// What bounds a batch, so that either side can reserve memory before it sees one.
public enum BatchLimits {
  /// Raw pages in one batch: 512 KiB of page bytes.
  public static let rawPagesMax = 128
  /// Zero pages in one batch, so that a destination never unrolls an endless run: 256 MiB of RAM.
  public static let zeroPagesMax = 65536
  public static let runsMax = 1024
}

/// Everything of a batch but the page bytes.
///
/// Layout: sequence u64, after u64, run count u32, runs of 16 bytes; page bytes follow.
public struct BatchHeader: Sendable, Hashable {
  public static let byteCountMax =
    SequencedHeader.byteCount + 4 + BatchLimits.runsMax * PageRun.byteCount

  public let place: SequencedHeader
  public let runs: [PageRun]

  /// - Precondition: `BatchLimits.runsMax` runs at most. The limits of pages are the caller's to
  ///   keep; the peer's decoder checks them.
  public init(place: SequencedHeader, runs: [PageRun]) {
    precondition(runs.count <= BatchLimits.runsMax)
    (self.place, self.runs) = (place, runs)
  }

  /// Raw pages whose bytes follow the header.
  public var rawPageCount: Int { runs.rawPageCount }
  /// Pages of zeros, of which nothing follows.
  public var zeroPageCount: Int { runs.pageCount - runs.rawPageCount }

  /// Bytes that `encode` appends.
  public var byteCount: Int { SequencedHeader.byteCount + 4 + runs.count * PageRun.byteCount }

  /// Decodes a `pages` payload's header and checks that exactly its page bytes follow.
  ///
  /// - Parameter pageBytes: bytes that follow the header, where the cursor does not hold them.
  public init(decoding cursor: inout ByteCursor, pageBytes: Int? = nil) throws(DecodeError) {
    place = try SequencedHeader(decoding: &cursor)
    let runCount = Int(try cursor.readBE(UInt32.self))
    runs = try Self.runs(runCount, decoding: &cursor)
    let rawPages = runs.rawPageCount
    let following = pageBytes ?? cursor.remaining
    guard following == rawPages * Page.size else {
      throw DecodeError(
        .truncated, in: "page bytes of a batch", at: UInt64(cursor.position),
        found: UInt64(clamping: following), limit: UInt64(rawPages * Page.size))
    }
  }

  /// Decodes a batch's runs, within the limits of a batch.
  static func runs(_ runCount: Int, decoding cursor: inout ByteCursor) throws(DecodeError)
    -> [PageRun]
  {
    guard runCount <= BatchLimits.runsMax else {
      throw DecodeError(
        .overLimit, in: "runs of a batch", at: 16, found: UInt64(runCount),
        limit: UInt64(BatchLimits.runsMax))
    }
    var runs: [PageRun] = []
    runs.reserveCapacity(runCount)
    var rawPages: UInt64 = 0
    var zeroPages: UInt64 = 0
    for _ in 0..<runCount {
      let run = try PageRun(decoding: &cursor)
      switch run.pageClass {  // at most 1024 times 2^32: no overflow
      case .raw: rawPages += UInt64(run.count)
      case .zero: zeroPages += UInt64(run.count)
      }
      runs.append(run)
    }
    guard zeroPages <= UInt64(BatchLimits.zeroPagesMax) else {
      throw DecodeError(
        .overLimit, in: "zero pages of a batch", at: 20, found: zeroPages,
        limit: UInt64(BatchLimits.zeroPagesMax))
    }
    guard rawPages <= UInt64(BatchLimits.rawPagesMax) else {
      throw DecodeError(
        .overLimit, in: "raw pages of a batch", at: 20, found: rawPages,
        limit: UInt64(BatchLimits.rawPagesMax))
    }
    return runs
  }

  /// Appends the header only; the bytes of the raw pages must follow, in the order of the runs.
  public func encode(into out: inout [UInt8]) {
    place.encode(into: &out)
    out.appendBE(UInt32(truncatingIfNeeded: runs.count))  // <= runsMax
    for run in runs { run.encode(into: &out) }
  }
}

extension [PageRun] {
  /// Pages of all runs, zeros included.
  public var pageCount: Int { reduce(0) { $0 + Int($1.count) } }

  /// Pages that are not zero.
  public var rawPageCount: Int {
    reduce(0) { $0 + ($1.pageClass == .raw ? Int($1.count) : 0) }
  }
}
