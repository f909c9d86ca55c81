public import Base

/// A region that was read while an index is being built: kept, so that a builder which is killed goes on where it was.
///
/// Layout: magic u32, region u32, blocks u32, reserved u32 (0), digest 32 bytes, an `IndexedBlock` each, a
/// checksum u64 of all before it.
public struct RegionRecord: Sendable, Hashable {
  /// `GWRG`.
  static let magic: UInt32 = 0x4757_5247
  static let fixedByteCount = 16 + ImageDigest.byteCount
  public static let byteCountMax =
    fixedByteCount + ImageLimits.regionBlocks * IndexedBlock.byteCount + 8

  public let region: UInt32
  public let digest: ImageDigest
  /// Those that hold something, rising.
  public let blocks: [IndexedBlock]

  /// - Precondition: `ImageLimits.regionBlocks` blocks at most; that they rise and lie in the
  ///   region is the caller's to keep.
  public init(region: UInt32, digest: ImageDigest, blocks: [IndexedBlock]) {
    precondition(blocks.count <= ImageLimits.regionBlocks)
    (self.region, self.digest, self.blocks) = (region, digest, blocks)
  }

  public var summary: RegionSummary {
    RegionSummary(digest: digest, heldBlocks: UInt32(truncatingIfNeeded: blocks.count))
  }

  /// Bytes that it takes.
  public var byteCount: Int { Self.fixedByteCount + blocks.count * IndexedBlock.byteCount + 8 }

  /// Reads the record at the start of `bytes`, which may go on behind it.
  ///
  /// - Parameter imageBytes: of the image, which all of it must be in.
  public init(decoding bytes: RawSpan, imageBytes: UInt64) throws(DecodeError) {
    var cursor = ByteCursor(bytes)
    let magic = try cursor.readBE(UInt32.self)
    guard magic == Self.magic else {
      throw DecodeError(
        .badMagic, in: "region record", at: 0, found: UInt64(magic), limit: UInt64(Self.magic))
    }
    region = try cursor.readBE()
    let count = Int(try cursor.readBE(UInt32.self))
    let reserved = try cursor.readBE(UInt32.self)
    guard Int(region) < ImageLimits.regions(of: imageBytes), count <= ImageLimits.regionBlocks,
      reserved == 0
    else { throw DecodeError(.badValue, in: "region record", at: 4, found: UInt64(region)) }
    digest = try ImageDigest(decoding: &cursor)
    let first = UInt64(region) * UInt64(ImageLimits.regionBlocks)
    let end = min(
      first + UInt64(ImageLimits.regionBlocks), ImageLimits.blocks(of: imageBytes))
    var next = first
    var blocks: [IndexedBlock] = []
    blocks.reserveCapacity(count)
    for _ in 0..<count {
      let block = try IndexedBlock(decoding: &cursor)
      guard UInt64(block.block) >= next, UInt64(block.block) < end else {
        throw DecodeError(
          .outOfOrder, in: "block of a region record", at: UInt64(cursor.position),
          found: UInt64(block.block), limit: next)
      }
      next = UInt64(block.block) + 1
      blocks.append(block)
    }
    self.blocks = blocks
    let expected = IndexChecksum.of(bytes.extracting(..<cursor.position))
    let checksum = try cursor.readBE(UInt64.self)
    guard checksum == expected else {
      throw DecodeError(
        .badChecksum, in: "region record", at: UInt64(cursor.position - 8), found: checksum,
        limit: expected)
    }
  }

  /// Appends `byteCount` bytes, the checksum included.
  public func encode(into out: inout [UInt8]) {
    let start = out.count
    out.appendBE(Self.magic)
    out.appendBE(region)
    out.appendBE(UInt32(truncatingIfNeeded: blocks.count))  // <= regionBlocks
    out.appendBE(UInt32(0))
    digest.encode(into: &out)
    for block in blocks { block.encode(into: &out) }
    out.appendBE(unsafe IndexChecksum.of(out.span.bytes.extracting(start...)))
  }
}
