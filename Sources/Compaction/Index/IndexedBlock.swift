public import Base
import CXXHash

/// One block of an image that holds something, as an index has it.
///
/// Layout: tag u32, block u32, identity u64; 16 bytes.
public struct IndexedBlock: Sendable, Hashable {
  public static let byteCount = 16

  /// By which a page is looked for: see `tag(of:)`.
  public let tag: UInt32
  /// Number of the block in the image as a guest sees it, in blocks of 4096 bytes.
  public let block: UInt32
  /// The first eight bytes of the content's SHA-256.
  public let identity: UInt64

  public init(tag: UInt32, block: UInt32, identity: UInt64) {
    (self.tag, self.block, self.identity) = (tag, block, identity)
  }

  init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    tag = try cursor.readBE()
    block = try cursor.readBE()
    identity = try cursor.readBE()
  }

  func encode(into out: inout [UInt8]) {
    out.appendBE(tag)
    out.appendBE(block)
    out.appendBE(identity)
  }

  /// A fast hash of a page, the same on every host. It only filters: a guest that aims at it makes its own
  /// agent look at more pages, and nothing else.
  public static func tag(of content: RawSpan) -> UInt32 {
    UInt32(truncatingIfNeeded: IndexChecksum.of(content) >> 32)
  }
}

/// What tells damaged bytes of an index from sound ones; no proof against an attacker.
public enum IndexChecksum {
  /// XXH3, 64 bits.
  public static func of(_ bytes: RawSpan) -> UInt64 {
    // SAFETY: the pointer does not leave the closure.
    unsafe bytes.withUnsafeBytes { unsafe XXH3_64bits($0.baseAddress, $0.count) }
  }
}

/// A SHA-256, as four numbers.
public struct ImageDigest: Sendable, Hashable {
  public static let byteCount = 32

  public let a, b, c, d: UInt64

  /// - Parameter bytes: 32 of them.
  public init(_ bytes: RawSpan) throws(DecodeError) {
    var cursor = ByteCursor(bytes)
    try self.init(decoding: &cursor)
  }

  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    a = try cursor.readBE()
    b = try cursor.readBE()
    c = try cursor.readBE()
    d = try cursor.readBE()
  }

  public func encode(into out: inout [UInt8]) {
    for word in [a, b, c, d] { out.appendBE(word) }
  }
}

/// What an index says of a region: `ImageLimits.regionBlocks` blocks, the last one perhaps fewer.
///
/// Layout: digest 32 bytes, blocks u32, reserved u32 (0); 40 bytes.
public struct RegionSummary: Sendable, Hashable {
  public static let byteCount = 40

  /// SHA-256 of the identities of all of its blocks, in order; 32 zeros stand for a block that holds nothing.
  public let digest: ImageDigest
  /// Blocks that hold something.
  public let heldBlocks: UInt32

  public init(digest: ImageDigest, heldBlocks: UInt32) {
    (self.digest, self.heldBlocks) = (digest, heldBlocks)
  }

  init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    digest = try ImageDigest(decoding: &cursor)
    heldBlocks = try cursor.readBE()
    let reserved = try cursor.readBE(UInt32.self)
    guard heldBlocks <= UInt32(ImageLimits.regionBlocks), reserved == 0 else {
      throw DecodeError(
        .badValue, in: "region of an index", at: UInt64(cursor.position), found: UInt64(heldBlocks),
        limit: UInt64(ImageLimits.regionBlocks))
    }
  }

  func encode(into out: inout [UInt8]) {
    digest.encode(into: &out)
    out.appendBE(heldBlocks)
    out.appendBE(UInt32(0))
  }
}

/// What bounds images and their indexes.
public enum ImageLimits {
  /// Blocks of a region: 16 MiB.
  public static let regionBlocks = 4096
  /// 16 TiB, so that a block's number fits 32 bits.
  public static let imageBytesMax: UInt64 = 1 << 44
  /// Blocks of one index that hold something, each content once: 1 TiB of data, 4 GiB of index.
  public static let blocksMax = 1 << 28
  /// Pieces of a qcow2 image that do not follow each other in its file: 64 MiB of memory.
  public static let extentsMax = 4 << 20
  /// Bytes of a path.
  public static let pathBytesMax = 4096
  /// Images behind one another, the first included.
  public static let layersMax = 16

  /// Blocks of 4096 bytes that an image has; what is left at its end is never looked at.
  public static func blocks(of imageBytes: UInt64) -> UInt64 { imageBytes >> UInt64(Page.shift) }

  /// Regions of `ImageLimits.regionBlocks` blocks that an image has, the last one perhaps shorter.
  public static func regions(of imageBytes: UInt64) -> Int {
    Int((blocks(of: imageBytes) + UInt64(regionBlocks - 1)) / UInt64(regionBlocks))
  }
}
