public import Base
import Wire

/// The start of a segment: up to 256 pages of a snapshot, written at once, and what proves that all of it
/// is there.
///
/// Layout, big-endian: magic u32 `GWVS`, pages u32, number of the first among the snapshot's stored pages u64,
/// checksum of keys and filters u64, checksum of identities and contents u64, checksum of these 32 bytes u64.
/// Behind it the body: keys u64, filters u64, identities (SHA-256), contents of 4096 bytes; one of each a page.
public struct VaultSegment: Sendable, Hashable {
  public static let headByteCount = 40
  /// `GWVS`.
  static let magic: UInt32 = 0x4757_5653
  /// Bytes of a page's key and filter, of its identity, and of all of a page.
  public static let lookupByteCount = 16
  public static let identityByteCount = 32
  public static let pageByteCount = lookupByteCount + identityByteCount + Page.size
  /// Of a full segment.
  public static let byteCountMax = byteCount(pages: VaultLimits.segmentPages)

  /// `1...VaultLimits.segmentPages`.
  public let pageCount: Int
  /// Stored pages of the snapshot before it.
  public let firstIndex: UInt64
  public let lookupChecksum, contentChecksum: UInt64

  /// - Precondition: `pageCount` is in `1...VaultLimits.segmentPages`.
  public init(pageCount: Int, firstIndex: UInt64, lookupChecksum: UInt64, contentChecksum: UInt64) {
    precondition((1...VaultLimits.segmentPages).contains(pageCount))
    (self.pageCount, self.firstIndex) = (pageCount, firstIndex)
    (self.lookupChecksum, self.contentChecksum) = (lookupChecksum, contentChecksum)
  }

  /// Bytes of a segment with so many pages.
  public static func byteCount(pages: Int) -> Int { headByteCount + pages * pageByteCount }

  /// Where the parts of the body begin, from the segment's start.
  public static func identitiesOffset(pages: Int) -> Int { headByteCount + pages * lookupByteCount }
  public static func contentsOffset(pages: Int) -> Int {
    headByteCount + pages * (lookupByteCount + identityByteCount)
  }

  /// Reads `headByteCount` bytes. Throws on another magic, on a checksum that doesn't fit, and
  /// where there are no pages or more than `VaultLimits.segmentPages`; the body's own checksums are
  /// compared when it is read.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    let fixed = try cursor.take(Self.headByteCount - 8)
    let checksum = try cursor.readBE(UInt64.self)
    var fields = ByteCursor(fixed)
    let magic = try fields.readBE(UInt32.self)
    guard magic == Self.magic else {
      throw DecodeError(
        .badMagic, in: "segment", at: start, found: UInt64(magic), limit: UInt64(Self.magic))
    }
    let expected = FrameChecksum.of(fixed)
    guard checksum == expected else {
      throw DecodeError(
        .badChecksum, in: "head of a segment", at: start, found: checksum, limit: expected)
    }
    let count = Int(try fields.readBE(UInt32.self))
    guard (1...VaultLimits.segmentPages).contains(count) else {
      throw DecodeError(
        .overLimit, in: "pages of a segment", at: start + 4, found: UInt64(count),
        limit: UInt64(VaultLimits.segmentPages))
    }
    self.init(
      pageCount: count, firstIndex: try fields.readBE(), lookupChecksum: try fields.readBE(),
      contentChecksum: try fields.readBE())
  }

  /// Appends the head; the body must follow.
  public func encode(into out: inout [UInt8]) {
    let start = out.count
    out.appendBE(Self.magic)
    out.appendBE(UInt32(truncatingIfNeeded: pageCount))  // <= segmentPages
    out.appendBE(firstIndex)
    out.appendBE(lookupChecksum)
    out.appendBE(contentChecksum)
    let checksum = unsafe FrameChecksum.of(out.span.bytes.extracting(start...))
    out.appendBE(checksum)
  }

  /// Keys and filters of the pages, which rise and lie within the blocks of `head`.
  ///
  /// - Parameters:
  ///   - bytes: the first part of the body.
  ///   - last: the key before them; nil: none.
  public func lookups(
    _ bytes: RawSpan, in head: VaultHead, after last: VaultKey?
  ) throws(DecodeError) -> [(key: VaultKey, filter: UInt64)] {
    guard bytes.byteCount == pageCount * Self.lookupByteCount else {
      throw DecodeError(.truncated, in: "keys of a segment", at: 0)
    }
    let expected = FrameChecksum.of(bytes)
    guard lookupChecksum == expected else {
      throw DecodeError(
        .badChecksum, in: "keys of a segment", at: 0, found: lookupChecksum, limit: expected)
    }
    var keys = ByteCursor(bytes.extracting(..<(pageCount * 8)))
    var filters = ByteCursor(bytes.extracting((pageCount * 8)...))
    var found: [(key: VaultKey, filter: UInt64)] = []
    found.reserveCapacity(pageCount)
    var last = last
    for _ in 0..<pageCount {
      let key = VaultKey(rawValue: try keys.readBE())
      guard last.map({ $0 < key }) ?? true, key.block < head.blocks.count,
        key.page < head.blocks[key.block].pages
      else {
        throw DecodeError(
          .outOfOrder, in: "keys of a segment", at: UInt64(keys.position), found: key.rawValue)
      }
      found.append((key, try filters.readBE()))
      last = key
    }
    return found
  }
}
