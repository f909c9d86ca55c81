public import Base

/// How an image's bytes are arranged in its file.
public enum ImageFormat: UInt8, Sendable, CaseIterable {
  case raw = 0
  case qcow2 = 1
}

/// By what it is seen that a file was written to: what `stat` says of it.
///
/// Layout: five numbers u64; 40 bytes.
public struct ImageSignature: Sendable, Hashable {
  public var byteCount, modifiedNs, changedNs, inode, device: UInt64

  /// Times in nanoseconds since 1970: of the content (`mtime`), and of the file's own record
  /// (`ctime`).
  public init(
    byteCount: UInt64, modifiedNs: UInt64, changedNs: UInt64, inode: UInt64, device: UInt64
  ) {
    (self.byteCount, self.modifiedNs, self.changedNs) = (byteCount, modifiedNs, changedNs)
    (self.inode, self.device) = (inode, device)
  }

  init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    byteCount = try cursor.readBE()
    modifiedNs = try cursor.readBE()
    changedNs = try cursor.readBE()
    inode = try cursor.readBE()
    device = try cursor.readBE()
  }

  public func encode(into out: inout [UInt8]) {
    for field in [byteCount, modifiedNs, changedNs, inode, device] { out.appendBE(field) }
  }

  /// Whether the times tell that nobody wrote since `seconds`: file systems' clocks are coarse, so what was
  /// changed in the two seconds before could have been changed after.
  public func isSettled(before seconds: UInt64) -> Bool {
    // Beyond the year 2500 nanoseconds don't fit.
    guard seconds > 2, seconds < 1 << 34 else { return false }
    return max(modifiedNs, changedNs) < (seconds - 2) * 1_000_000_000
  }
}

/// What is known of an image: which content is in which of its blocks.
///
/// Layout: magic u64, format u8, bucket bits u8, changed while read u8, reserved u8 (0), bytes of the path u32,
/// image bytes u64, signature 40 bytes, read from u64 (seconds since 1970), regions u32, extents u32, blocks
/// u32, reserved u32 (0), held blocks u64, root 32 bytes: 128 bytes. Then the path, zeros up to a multiple of
/// 8; a `RegionSummary` each; a `BlockMap.Extent` each; 2^bits + 1 numbers u32, the first block of each bucket,
/// zeros up to a multiple of 8; an `IndexedBlock` each, by rising tag; a checksum u64 of all before it.
///
/// The blocks stay where they are, in the file's bytes: whoever looks for one passes them in.
public struct ImageIndex: Sendable {
  /// `GWINDEX1`.
  public static let magic: UInt64 = 0x4757_494E_4445_5831
  public static let headerByteCount = 128
  static let bucketBitsMax = 26
  /// Blocks with one tag that are looked at: more have it only when somebody aims at it.
  static let sameTagMax = 8

  public let format: ImageFormat
  /// The image as its guest sees it, in bytes.
  public let imageBytes: UInt64
  /// Of the file when reading began.
  public let signature: ImageSignature
  /// When reading began, in seconds since 1970.
  public let readFrom: UInt64
  /// The signature was another one when reading ended.
  public let wasChanged: Bool
  public let path: String
  /// Blocks that hold something.
  public let heldBlocks: UInt64
  /// SHA-256 of the regions' digests, in order.
  public let root: ImageDigest
  public let regions: [RegionSummary]
  public let map: BlockMap
  /// Blocks in the table: each content once.
  public let tableCount: Int
  private let bucketBits: Int
  private let directoryStart, tableStart: Int

  /// Reads an index that somebody else may have written: nothing in it is believed unchecked.
  public init(decoding bytes: RawSpan) throws(DecodeError) {
    guard bytes.byteCount >= Self.headerByteCount + 8 else {
      throw DecodeError(
        .truncated, in: "index", at: 0, found: UInt64(bytes.byteCount),
        limit: UInt64(Self.headerByteCount + 8))
    }
    var end = ByteCursor(bytes.extracting((bytes.byteCount - 8)...))
    let (checksum, expected) = (
      try end.readBE(UInt64.self), IndexChecksum.of(bytes.extracting(..<(bytes.byteCount - 8)))
    )
    var cursor = ByteCursor(bytes.extracting(..<(bytes.byteCount - 8)))
    let magic = try cursor.readBE(UInt64.self)
    guard magic == Self.magic else {
      throw DecodeError(.badMagic, in: "index", at: 0, found: magic, limit: Self.magic)
    }
    guard checksum == expected else {
      throw DecodeError(
        .badChecksum, in: "index", at: UInt64(bytes.byteCount - 8), found: checksum, limit: expected
      )
    }
    let rawFormat = try cursor.readBE(UInt8.self)
    bucketBits = Int(try cursor.readBE(UInt8.self))
    let changed = try cursor.readBE(UInt8.self)
    let reserved = try cursor.readBE(UInt8.self)
    let pathBytes = Int(try cursor.readBE(UInt32.self))
    imageBytes = try cursor.readBE()
    signature = try ImageSignature(decoding: &cursor)
    readFrom = try cursor.readBE()
    let regionCount = Int(try cursor.readBE(UInt32.self))
    let extentCount = Int(try cursor.readBE(UInt32.self))
    tableCount = Int(try cursor.readBE(UInt32.self))
    let reservedToo = try cursor.readBE(UInt32.self)
    heldBlocks = try cursor.readBE()
    root = try ImageDigest(decoding: &cursor)
    guard let format = ImageFormat(rawValue: rawFormat), changed < 2, reserved == 0,
      reservedToo == 0, bucketBits <= Self.bucketBitsMax,
      (1...ImageLimits.pathBytesMax).contains(pathBytes),
      imageBytes <= ImageLimits.imageBytesMax,
      regionCount == ImageLimits.regions(of: imageBytes), tableCount <= ImageLimits.blocksMax,
      heldBlocks <= ImageLimits.blocks(of: imageBytes), UInt64(tableCount) <= heldBlocks
    else { throw DecodeError(.badValue, in: "header of an index", at: 8, found: imageBytes) }
    (self.format, wasChanged) = (format, changed == 1)
    path = try cursor.readString(pathBytes)
    try Self.skipZeros(&cursor)
    // A region each; their number is bounded by the image's size.
    var regions: [RegionSummary] = []
    for _ in 0..<regionCount { regions.append(try RegionSummary(decoding: &cursor)) }
    self.regions = regions
    map = try BlockMap(decoding: &cursor, count: extentCount)
    directoryStart = cursor.position
    _ = try cursor.take(((1 << bucketBits) + 1) * 4)
    try Self.skipZeros(&cursor)
    tableStart = cursor.position
    _ = try cursor.take(tableCount * IndexedBlock.byteCount)
    guard cursor.remaining == 0 else {
      throw DecodeError(
        .outOfOrder, in: "end of an index", at: UInt64(cursor.position),
        found: UInt64(cursor.remaining))
    }
  }

  private static func skipZeros(_ cursor: inout ByteCursor) throws(DecodeError) {
    while cursor.position % 8 != 0 {
      let byte = try cursor.readBE(UInt8.self)
      guard byte == 0 else {
        throw DecodeError(
          .badValue, in: "padding of an index", at: UInt64(cursor.position - 1), found: UInt64(byte)
        )
      }
    }
  }

  /// The numbers of the blocks in the table that have the tag, at most `sameTagMax`; empty for almost every
  /// page that is not in the image.
  ///
  /// - Parameter bytes: those that the index was read from.
  public func candidates(_ tag: UInt32, in bytes: RawSpan) -> Range<Int> {
    let bucket = Int(UInt64(tag) >> UInt64(32 - bucketBits))
    let start = number(directoryStart + bucket * 4, bytes)
    let end = min(number(directoryStart + bucket * 4 + 4, bytes), tableCount)
    guard start < end else { return 0..<0 }
    var (low, high) = (start, end)
    while low < high {
      let middle = (low + high) / 2
      if self.tag(middle, bytes) < tag { low = middle + 1 } else { high = middle }
    }
    var last = low
    while last < end, last < low + Self.sameTagMax, self.tag(last, bytes) == tag { last += 1 }
    return low..<last
  }

  /// A block of the table by its number.
  public func block(_ index: Int, in bytes: RawSpan) -> IndexedBlock {
    precondition(index >= 0 && index < tableCount)
    let start = tableStart + index * IndexedBlock.byteCount
    return IndexedBlock(
      tag: UInt32(truncatingIfNeeded: number(start, bytes)),
      block: UInt32(truncatingIfNeeded: number(start + 4, bytes)),
      identity: UInt64(number(start + 8, bytes)) << 32 | UInt64(number(start + 12, bytes)))
  }

  private func tag(_ index: Int, _ bytes: RawSpan) -> UInt32 {
    UInt32(truncatingIfNeeded: number(tableStart + index * IndexedBlock.byteCount, bytes))
  }

  /// The number u32 at `offset`; traps, as any span does, where other bytes are passed in than were read.
  private func number(_ offset: Int, _ bytes: RawSpan) -> Int {
    precondition(offset >= 0 && offset <= bytes.byteCount - 4)
    // SAFETY: in bounds by the precondition; every bit pattern is a number.
    let raw = unsafe bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt32.self)
    return Int(UInt32(bigEndian: raw))
  }
}
