public import Base

/// Where the blocks of an image are in its file.
public struct BlockMap: Sendable, Hashable {
  /// Blocks that follow each other in the image and in the file.
  ///
  /// Layout: first u32, count u32, offset u64; 16 bytes.
  public struct Extent: Sendable, Hashable {
    public static let byteCount = 16

    public let first: UInt32
    /// At least 1.
    public fileprivate(set) var count: UInt32
    /// Of the first block in the file, in bytes.
    public let offset: UInt64

    /// `offset` in bytes from the start of the file. Whether the extent is sound `append` decides.
    public init(first: UInt32, count: UInt32, offset: UInt64) {
      (self.first, self.count, self.offset) = (first, count, offset)
    }

    /// The block after the last one.
    public var end: UInt64 { UInt64(first) + UInt64(count) }

    func encode(into out: inout [UInt8]) {
      out.appendBE(first)
      out.appendBE(count)
      out.appendBE(offset)
    }
  }

  /// No byte of a file is further away; a sum of two such offsets does not overflow.
  static let offsetMax: UInt64 = 1 << 62

  /// Rising, and apart from one another.
  public private(set) var extents: [Extent] = []
  /// Blocks that are anywhere.
  public private(set) var blockCount: UInt64 = 0

  public init() {}

  /// Every block where the image has it.
  public static func raw(blocks: UInt64) -> BlockMap {
    var map = BlockMap()
    precondition(blocks <= ImageLimits.blocks(of: ImageLimits.imageBytesMax))
    // 2^32 blocks do not fit one extent's count.
    for first in [0, UInt64(1) << 31] where first < blocks {
      let count = UInt32(min(blocks - first, UInt64(1) << 31))
      map.add(
        Extent(first: UInt32(first), count: count, offset: first << UInt64(Page.shift)))
    }
    return map
  }

  /// Adds blocks behind all others.
  public mutating func append(_ extent: Extent) throws(DecodeError) {
    let start = extents.last?.end ?? 0
    guard extent.count > 0, UInt64(extent.first) >= start, extent.end <= 1 << 32,
      extent.offset <= Self.offsetMax
    else {
      throw DecodeError(
        .badValue, in: "map of an image", at: UInt64(extents.count), found: UInt64(extent.first),
        limit: start)
    }
    guard extents.count < ImageLimits.extentsMax else {
      throw DecodeError(
        .overLimit, in: "map of an image", at: UInt64(extents.count),
        found: UInt64(extents.count + 1), limit: UInt64(ImageLimits.extentsMax))
    }
    add(extent)
  }

  private mutating func add(_ extent: Extent) {
    blockCount += UInt64(extent.count)
    if let last = extents.last, last.end == UInt64(extent.first),
      last.offset + UInt64(last.count) << UInt64(Page.shift) == extent.offset,
      UInt64(last.count) + UInt64(extent.count) <= 1 << 31
    {
      extents[extents.count - 1].count += extent.count
    } else {
      extents.append(extent)
    }
  }

  init(decoding cursor: inout ByteCursor, count: Int) throws(DecodeError) {
    guard count <= ImageLimits.extentsMax else {
      throw DecodeError(
        .overLimit, in: "map of an index", at: UInt64(cursor.position), found: UInt64(count),
        limit: UInt64(ImageLimits.extentsMax))
    }
    for _ in 0..<count {
      try append(
        Extent(
          first: try cursor.readBE(), count: try cursor.readBE(), offset: try cursor.readBE()))
    }
  }

  func encode(into out: inout [UInt8]) { for extent in extents { extent.encode(into: &out) } }

  /// Tells maps apart.
  public var checksum: UInt64 {
    var bytes: [UInt8] = []
    encode(into: &bytes)
    return unsafe IndexChecksum.of(bytes.span.bytes)
  }

  /// Number of the first extent that ends behind `block`.
  private func firstExtent(endingAfter block: UInt64) -> Int {
    var (low, high) = (0, extents.count)
    while low < high {
      let middle = (low + high) / 2
      if extents[middle].end > block { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// Where the block begins in the file; nil: nowhere.
  public func offset(of block: UInt32) -> UInt64? {
    let index = firstExtent(endingAfter: UInt64(block))
    guard index < extents.count, extents[index].first <= block else { return nil }
    return extents[index].offset + UInt64(block - extents[index].first) << UInt64(Page.shift)
  }

  /// What of `blocks` is anywhere, in order.
  public func pieces(of blocks: Range<UInt64>) -> [Extent] {
    var pieces: [Extent] = []
    var index = firstExtent(endingAfter: blocks.lowerBound)
    while index < extents.count, UInt64(extents[index].first) < blocks.upperBound {
      let extent = extents[index]
      let first = max(UInt64(extent.first), blocks.lowerBound)
      let end = min(extent.end, blocks.upperBound)
      let skipped = (first - UInt64(extent.first)) << UInt64(Page.shift)
      pieces.append(
        Extent(
          first: UInt32(truncatingIfNeeded: first),  // < 2^32: an extent's block
          count: UInt32(truncatingIfNeeded: end - first), offset: extent.offset + skipped))
      index += 1
    }
    return pieces
  }
}
