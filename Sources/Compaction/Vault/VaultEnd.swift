public import Base
import Wire

/// The last bytes of a snapshot's file. A file without them was not finished, and is no snapshot.
///
/// Layout, big-endian: magic u64 `GWVAULTE`, id 16 bytes, stored pages u64, zero pages u64, bytes of the head u64,
/// checksum of these 48 bytes u64.
public struct VaultEnd: Sendable, Hashable {
  public static let byteCount = 56
  /// `GWVAULTE`.
  static let magic: UInt64 = 0x4757_5641_554C_5445

  public let id: VaultID
  public let storedPages: UInt64
  /// Pages that were zero, and are not stored.
  public let zeroPages: UInt64
  let headByteCount: UInt64

  /// - Parameter headByteCount: of the snapshot's head, as it was written.
  public init(id: VaultID, storedPages: UInt64, zeroPages: UInt64, headByteCount: Int) {
    (self.id, self.storedPages, self.zeroPages) = (id, storedPages, zeroPages)
    self.headByteCount = UInt64(headByteCount)
  }

  /// Reads `byteCount` bytes. Throws on another magic, on a checksum that doesn't fit, and on more
  /// pages than `VaultLimits.pagesMax`; whether the file is as long as this says `VaultLayout`
  /// checks.
  public init(decoding bytes: RawSpan) throws(DecodeError) {
    var cursor = ByteCursor(bytes)
    let fixed = try cursor.take(Self.byteCount - 8)
    let checksum = try cursor.readBE(UInt64.self)
    var fields = ByteCursor(fixed)
    let magic = try fields.readBE(UInt64.self)
    guard magic == Self.magic else {
      throw DecodeError(
        .badMagic, in: "end of a snapshot", at: 0, found: magic, limit: Self.magic)
    }
    let expected = FrameChecksum.of(fixed)
    guard checksum == expected else {
      throw DecodeError(
        .badChecksum, in: "end of a snapshot", at: 0, found: checksum, limit: expected)
    }
    id = VaultID(high: try fields.readBE(), low: try fields.readBE())
    storedPages = try fields.readBE()
    zeroPages = try fields.readBE()
    headByteCount = try fields.readBE()
    guard storedPages <= VaultLimits.pagesMax, zeroPages <= VaultLimits.pagesMax else {
      throw DecodeError(.overLimit, in: "pages of a snapshot", at: 24, found: storedPages)
    }
  }

  public func encode(into out: inout [UInt8]) {
    let start = out.count
    out.appendBE(Self.magic)
    out.appendBE(id.high)
    out.appendBE(id.low)
    out.appendBE(storedPages)
    out.appendBE(zeroPages)
    out.appendBE(headByteCount)
    let checksum = unsafe FrameChecksum.of(out.span.bytes.extracting(start...))
    out.appendBE(checksum)
  }
}

/// Where the parts of a snapshot's file are.
public struct VaultLayout: Sendable, Hashable {
  public let headByteCount: Int
  public let storedPages: UInt64

  /// Of a file that ends with `end`; throws when it is not as long as that says.
  public init(head: VaultHead, headByteCount: Int, end: VaultEnd, fileByteCount: UInt64)
    throws(DecodeError)
  {
    (self.headByteCount, storedPages) = (headByteCount, end.storedPages)
    let (sum, overflow) = end.storedPages.addingReportingOverflow(end.zeroPages)
    guard end.id == head.id, end.headByteCount == UInt64(headByteCount), !overflow,
      sum <= head.pageCount
    else {
      throw DecodeError(.badValue, in: "end of a snapshot", at: 0, found: end.storedPages)
    }
    guard byteCount == fileByteCount else {
      throw DecodeError(
        .truncated, in: "snapshot", at: 0, found: fileByteCount, limit: byteCount)
    }
  }

  /// All but the last have `VaultLimits.segmentPages` pages; none where nothing is stored.
  public var segmentCount: UInt64 {
    (storedPages + UInt64(VaultLimits.segmentPages) - 1) / UInt64(VaultLimits.segmentPages)
  }

  /// Of the whole file.
  public var byteCount: UInt64 {
    // At most 2^34 pages of some 2^12 bytes: no overflow.
    UInt64(headByteCount) + segmentCount * UInt64(VaultSegment.headByteCount)
      + storedPages * UInt64(VaultSegment.pageByteCount) + UInt64(VaultEnd.byteCount)
  }

  /// Where a segment begins in the file; segments before it are full.
  public func segmentOffset(_ segment: UInt64) -> UInt64 {
    UInt64(headByteCount) + segment * UInt64(VaultSegment.byteCountMax)
  }

  /// Pages of a segment; all but the last are full.
  public func pageCount(ofSegment segment: UInt64) -> Int {
    let rest = storedPages - segment * UInt64(VaultLimits.segmentPages)
    return Int(min(rest, UInt64(VaultLimits.segmentPages)))
  }

  /// Where the content of a stored page is, by its number among them.
  public func contentOffset(_ index: UInt64) -> UInt64 {
    let segment = index / UInt64(VaultLimits.segmentPages)
    let place = Int(index % UInt64(VaultLimits.segmentPages))
    return segmentOffset(segment)
      + UInt64(
        VaultSegment.contentsOffset(pages: pageCount(ofSegment: segment)) + place * Page.size)
  }
}
