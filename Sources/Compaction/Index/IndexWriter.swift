public import Base

/// Puts an index together out of its regions.
public struct IndexWriter: Sendable {
  public var format: ImageFormat
  public var imageBytes: UInt64
  public var signature: ImageSignature
  /// When reading the image began, in seconds since 1970.
  public var readFrom: UInt64
  /// The file was written to while it was read.
  public var wasChanged = false
  public var path: String
  public var map: BlockMap

  /// Blocks of a bucket, on average.
  private static let bucketBlocks = 8

  /// Limits are checked when the bytes are made.
  public init(
    format: ImageFormat, imageBytes: UInt64, signature: ImageSignature, readFrom: UInt64,
    path: String, map: BlockMap
  ) {
    (self.format, self.imageBytes, self.signature) = (format, imageBytes, signature)
    (self.readFrom, self.path, self.map) = (readFrom, path, map)
  }

  /// The whole file.
  ///
  /// - Parameters:
  ///   - regions: of the whole image.
  ///   - blocks: in any order; those with one tag and identity are taken for the same.
  public func bytes(
    regions: [RegionSummary], root: ImageDigest, blocks: [IndexedBlock]
  ) throws(DecodeError) -> [UInt8] {
    guard regions.count == ImageLimits.regions(of: imageBytes),
      imageBytes <= ImageLimits.imageBytesMax, blocks.count <= ImageLimits.blocksMax,
      (1...ImageLimits.pathBytesMax).contains(path.utf8.count)
    else {
      throw DecodeError(
        .overLimit, in: "image to be indexed", at: 0, found: imageBytes,
        limit: ImageLimits.imageBytesMax)
    }
    let (table, starts, bits) = Self.table(blocks)
    var out: [UInt8] = []
    out.reserveCapacity(
      ImageIndex.headerByteCount + regions.count * RegionSummary.byteCount
        + map.extents.count * BlockMap.Extent.byteCount + starts.count * 4
        + table.count * IndexedBlock.byteCount + path.utf8.count + 32)
    out.appendBE(ImageIndex.magic)
    out += [format.rawValue, UInt8(truncatingIfNeeded: bits), wasChanged ? 1 : 0, 0]
    out.appendBE(UInt32(truncatingIfNeeded: path.utf8.count))
    out.appendBE(imageBytes)
    signature.encode(into: &out)
    out.appendBE(readFrom)
    // Each within its limit, which fits.
    for count in [regions.count, map.extents.count, table.count, 0] {
      out.appendBE(UInt32(truncatingIfNeeded: count))
    }
    out.appendBE(regions.reduce(UInt64(0)) { $0 + UInt64($1.heldBlocks) })
    root.encode(into: &out)
    out += Array(path.utf8)
    Self.pad(&out)
    for region in regions { region.encode(into: &out) }
    map.encode(into: &out)
    for start in starts { out.appendBE(start) }
    Self.pad(&out)
    for block in table { block.encode(into: &out) }
    out.appendBE(unsafe IndexChecksum.of(out.span.bytes))
    return out
  }

  private static func pad(_ out: inout [UInt8]) { while out.count % 8 != 0 { out.append(0) } }

  /// Blocks by rising tag, each content once, and where each bucket begins. A bucket is what has the tag's
  /// highest bits in common; they are dealt out, and each is sorted by itself.
  private static func table(
    _ blocks: [IndexedBlock]
  ) -> (table: [IndexedBlock], starts: [UInt32], bits: Int) {
    var bits = 0
    while bits < ImageIndex.bucketBitsMax, (1 << bits) * bucketBlocks < blocks.count { bits += 1 }
    func bucket(_ block: IndexedBlock) -> Int { Int(UInt64(block.tag) >> UInt64(32 - bits)) }
    var places = [Int](repeating: 0, count: (1 << bits) + 1)
    for block in blocks { places[bucket(block) + 1] += 1 }
    for index in 1..<places.count { places[index] += places[index - 1] }
    let ends = places
    var dealt = [IndexedBlock](
      repeating: IndexedBlock(tag: 0, block: 0, identity: 0), count: blocks.count)
    for block in blocks {
      let index = bucket(block)
      dealt[places[index]] = block
      places[index] += 1
    }
    var table: [IndexedBlock] = []
    table.reserveCapacity(dealt.count)
    var starts: [UInt32] = []
    starts.reserveCapacity(ends.count)
    for index in 0..<(ends.count - 1) {
      starts.append(UInt32(truncatingIfNeeded: table.count))  // <= blocksMax
      let sorted = dealt[ends[index]..<ends[index + 1]].sorted {
        ($0.tag, $0.identity, $0.block) < ($1.tag, $1.identity, $1.block)
      }
      for block in sorted {
        if let last = table.last, table.count > Int(starts[index]), last.tag == block.tag,
          last.identity == block.identity
        {
          continue
        }
        table.append(block)
      }
    }
    starts.append(UInt32(truncatingIfNeeded: table.count))
    return (table, starts, bits)
  }
}
