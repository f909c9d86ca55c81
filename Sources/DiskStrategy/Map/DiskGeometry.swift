/// How a disk is divided while it moves: blocks of 4 KiB, and chunks of 64 of them.
///
/// Whether the destination has something is known for each block; what goes there goes in runs of
/// blocks within one chunk.
public struct DiskGeometry: Sendable, Hashable {
  /// Bytes of a block.
  public static let blockByteCount = 4096
  static let blockShift: UInt64 = 12
  /// Blocks of a chunk: a word of a bitmap.
  public static let chunkBlockCount = 64
  /// Bytes of a chunk: 256 KiB.
  public static let chunkByteCount = blockByteCount * chunkBlockCount
  /// Largest disk that can be moved: 64 TiB, whose maps take some gigabytes.
  public static let byteCountMax: UInt64 = 1 << 46

  public let byteCount: UInt64

  /// nil: larger than `byteCountMax`, or empty.
  public init?(byteCount: UInt64) {
    guard (1...Self.byteCountMax).contains(byteCount) else { return nil }
    self.byteCount = byteCount
  }

  /// Blocks, the last one perhaps shorter than the others.
  public var blockCount: Int {
    Int((byteCount + UInt64(Self.blockByteCount - 1)) >> Self.blockShift)
  }

  /// Words of a bitmap of blocks.
  public var chunkCount: Int { (blockCount + Self.chunkBlockCount - 1) / Self.chunkBlockCount }

  /// Blocks of which the range has at least one byte. The range is cut at the disk's end.
  public func touched(at offset: UInt64, count: UInt64) -> Range<Int> {
    let end = end(offset, count)
    guard offset < end else { return 0..<0 }
    return Int(offset >> Self.blockShift)..<(Int((end - 1) >> Self.blockShift) + 1)
  }

  /// Blocks that the range has as a whole: what lies behind the disk's end isn't missed.
  public func covered(at offset: UInt64, count: UInt64) -> Range<Int> {
    let end = end(offset, count)
    let size = UInt64(Self.blockByteCount)
    let first = Int((offset + size - 1) >> Self.blockShift)
    let last = end == byteCount ? blockCount : Int(end >> Self.blockShift)
    return first < last ? first..<last : first..<first
  }

  /// The bytes of blocks.
  public func bytes(of blocks: Range<Int>) -> Range<UInt64> {
    let start = UInt64(blocks.lowerBound) << Self.blockShift
    let end = min(UInt64(blocks.upperBound) << Self.blockShift, byteCount)
    return start..<max(start, end)
  }

  private func end(_ offset: UInt64, _ count: UInt64) -> UInt64 {
    let sum = offset.addingReportingOverflow(count)
    return sum.overflow ? byteCount : min(sum.partialValue, byteCount)
  }
}
