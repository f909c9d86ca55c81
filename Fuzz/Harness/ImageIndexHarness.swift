import Base
import Compaction

/// What must hold for an index file whatever its bytes are: what was read is within its limits, every number in it
/// can be looked up, and looking finds a block under its own tag.
///
/// The first byte says what the rest is: 0 an index, 1 one whose checksum is mended, so that what lies behind it is
/// reached, anything else a record of a builder, mended likewise.
public enum ImageIndexHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let mode = data.first else { return nil }
    var bytes = Array(data.dropFirst())
    if mode > 0 { bytes.appendBE(IndexChecksum.of(bytes.span.bytes)) }
    return mode > 1 ? record(bytes) : index(bytes)
  }

  private static func index(_ bytes: [UInt8]) -> String? {
    guard let index = try? ImageIndex(decoding: bytes.span.bytes) else { return nil }
    guard index.regions.count == ImageLimits.regions(of: index.imageBytes),
      UInt64(index.tableCount) <= index.heldBlocks, index.path.utf8.count > 0
    else { return "counts that don't fit" }
    if let broken = BlockMapCheck.run(index.map) { return broken }
    for number in 0..<min(index.tableCount, 512) {
      let block = index.block(number, in: bytes.span.bytes)
      let found = index.candidates(block.tag, in: bytes.span.bytes)
      guard found.count <= 8, found.upperBound <= index.tableCount else {
        return "found \(found) of \(index.tableCount)"
      }
      for other in found where index.block(other, in: bytes.span.bytes).tag != block.tag {
        return "found a block with another tag"
      }
    }
    let parts = ImageParts(index.regions)
    guard parts.numbers.count <= ImageParts.countMax,
      ImageParts(regionCount: index.regions.count, bytes: parts.bytes) == parts
    else { return "parts that don't read back" }
    return nil
  }

  private static func record(_ bytes: [UInt8]) -> String? {
    let imageBytes: UInt64 = 64 << 20
    guard
      let record = try? RegionRecord(decoding: bytes.span.bytes, imageBytes: imageBytes)
    else { return nil }
    var encoded: [UInt8] = []
    record.encode(into: &encoded)
    guard encoded.count == record.byteCount, encoded.count <= RegionRecord.byteCountMax,
      encoded == Array(bytes.prefix(encoded.count))
    else { return "encoded again, other bytes" }
    return nil
  }
}

/// What holds for every map.
enum BlockMapCheck {
  static func run(_ map: BlockMap) -> String? {
    var (end, blocks): (UInt64, UInt64) = (0, 0)
    for extent in map.extents {
      guard extent.count > 0, UInt64(extent.first) >= end, extent.end <= 1 << 32 else {
        return "extents out of order"
      }
      guard map.offset(of: extent.first) == extent.offset else { return "a block is not found" }
      (end, blocks) = (extent.end, blocks + UInt64(extent.count))
    }
    guard blocks == map.blockCount else { return "blocks miscounted" }
    let pieces = map.pieces(of: 0..<1 << 32)
    return pieces == map.extents ? nil : "all pieces are not the extents"
  }
}
