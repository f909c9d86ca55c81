import Base

/// Blocks that are compared to see whether a destination still is the one that the map tells of.
extension BlockMap {
  /// Chunks that one draw goes through at most, for a block that is synced: where those are few, a draw may find none.
  private static let chunksPerDraw = 64

  /// Whether the destination has any block on stable storage.
  public var hasSynced: Bool { needed.population + unflushedCount < geometry.blockCount }

  /// Whether the destination has the block on stable storage, as it is here.
  public func isSynced(_ block: Int) -> Bool { !isOpen(block..<block + 1) }

  /// A block that is synced, drawn by chance; nil: none was found. Those of a chunk have the same chance, and a chunk has the
  /// better one the more chunks without any lie before it.
  public func syncedBlock(using random: inout some RandomNumberGenerator) -> Int? {
    guard hasSynced else { return nil }
    let count = geometry.chunkCount
    let first = Int(random.next() % UInt64(count))
    for step in 0..<min(Self.chunksPerDraw, count) {
      let chunk = (first + step) % count
      let start = chunk * DiskGeometry.chunkBlockCount
      let size = min(DiskGeometry.chunkBlockCount, geometry.blockCount - start)
      var synced = ~openWord(chunk) & (.max >> UInt64(DiskGeometry.chunkBlockCount - size))
      guard synced != 0 else { continue }
      for _ in 0..<Int(random.next() % UInt64(synced.nonzeroBitCount)) {
        synced &= synced - 1
      }
      return start + synced.trailingZeroBitCount
    }
    return nil
  }
}
