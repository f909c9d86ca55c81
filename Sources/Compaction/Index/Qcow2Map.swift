public import Base

/// Finds out where a qcow2 image's data are: which second tables are to be read, and what is in them.
///
/// Clusters that are compressed, zeros, or not in this image (those of the one behind it) are left out.
public struct Qcow2Map: Sendable {
  /// Bits 9 to 55 of an entry: an offset in the file.
  private static let offsetBits: UInt64 = 0x00FF_FFFF_FFFF_FE00

  private let header: Qcow2Header
  /// Of the file, in bytes.
  private let fileBytes: UInt64
  /// What the second tables taken in so far have shown.
  public private(set) var map = BlockMap()

  /// - Parameter fileBytes: of the file now; tables and clusters beyond it are refused.
  public init(_ header: Qcow2Header, fileBytes: UInt64) {
    (self.header, self.fileBytes) = (header, fileBytes)
  }

  /// Where the first table is.
  public var l1: (offset: UInt64, byteCount: Int) { (header.l1Offset, header.l1Count * 8) }

  /// The second tables that there are: their numbers, rising, and where each is, a cluster long.
  public func tables(_ l1: RawSpan) throws(DecodeError) -> [(number: Int, offset: UInt64)] {
    var cursor = ByteCursor(l1)
    var tables: [(number: Int, offset: UInt64)] = []
    for number in 0..<header.l1Count {
      let offset = try cursor.readBE(UInt64.self) & Self.offsetBits
      guard offset > 0 else { continue }
      try check(offset, "first table of a qcow2 image")
      tables.append((number, offset))
    }
    return tables
  }

  /// Takes in a second table; to be called in the order of `tables`.
  public mutating func append(table number: Int, _ l2: RawSpan) throws(DecodeError) {
    precondition(number >= 0 && number < header.l1Count)
    var cursor = ByteCursor(l2)
    let clusterBlocks = UInt64(header.clusterBytes / Page.size)
    let blocks = ImageLimits.blocks(of: header.imageBytes)
    for index in 0..<header.l2Count {
      let entry = try cursor.readBE(UInt64.self)
      // Bit 62: compressed. Bit 0: reads as zeros, wherever its cluster is.
      if entry & 1 << 62 != 0 || (header.hasZeroClusters && entry & 1 != 0) { continue }
      let offset = entry & Self.offsetBits
      let first = (UInt64(number) * UInt64(header.l2Count) + UInt64(index)) * clusterBlocks
      guard offset > 0, first < blocks else { continue }
      try check(offset, "second table of a qcow2 image")
      let count = min(clusterBlocks, blocks - first)
      // A guest's cluster has one of the file's to itself, so an honest image has no more than the file holds.
      guard map.blockCount + count <= fileBytes >> UInt64(Page.shift) + clusterBlocks else {
        throw DecodeError(
          .overLimit, in: "clusters of a qcow2 image", at: offset, found: map.blockCount + count,
          limit: fileBytes >> UInt64(Page.shift))
      }
      try map.append(
        BlockMap.Extent(
          first: UInt32(truncatingIfNeeded: first),  // < blocks <= 2^32
          count: UInt32(truncatingIfNeeded: count), offset: offset))
    }
  }

  private func check(_ offset: UInt64, _ context: StaticString) throws(DecodeError) {
    guard offset % UInt64(header.clusterBytes) == 0 else {
      throw DecodeError(
        .unaligned, in: context, at: offset, found: offset, limit: UInt64(header.clusterBytes))
    }
    guard offset < fileBytes else {
      throw DecodeError(.overLimit, in: context, at: offset, found: offset, limit: fileBytes)
    }
  }
}
