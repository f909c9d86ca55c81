import DiskStrategy
import NBD

/// Extents of what bitmaps say of a disk's blocks.
enum BlockExtents {
  /// Chunks that one answer goes through: 8 GiB of a disk. Others wait for the map meanwhile; clients ask again.
  private static let chunksMax = 32_768

  /// - Parameters:
  ///   - words: of a chunk's blocks, the lowest in the lowest bit: those that are marked, and those that wait for a flush.
  /// - Returns: at least one extent, at most `extentsMax`; they end where the range does, or before.
  static func list(
    _ geometry: DiskGeometry, at offset: UInt64, count: UInt64, extentsMax: Int,
    _ words: (Int) -> (marked: UInt64, unflushed: UInt64)
  ) -> [NBDExtent] {
    let blocks = geometry.touched(at: offset, count: count)
    guard !blocks.isEmpty, extentsMax > 0 else { return untold(count) }
    var extents: [NBDExtent] = []
    func add(_ part: Range<Int>, _ flags: UInt64) -> Bool {
      let bytes = geometry.bytes(of: part).clamped(to: offset..<(offset + count))
      let length = bytes.upperBound - bytes.lowerBound
      guard extents.count < extentsMax || extents.last?.flags == flags else { return false }
      NBDExtent.append(NBDExtent(length: length, flags: flags), to: &extents)
      return true
    }
    let size = DiskGeometry.chunkBlockCount
    let first = blocks.lowerBound / size
    for chunk in first...min((blocks.upperBound - 1) / size, first + chunksMax - 1) {
      let (marked, unflushed) = words(chunk)
      let part = ((chunk * size)..<((chunk + 1) * size)).clamped(to: blocks)
      if isUniform(marked), isUniform(unflushed) {
        guard add(part, flags(marked & 1, unflushed & 1)) else { return extents }
        continue
      }
      for block in part {
        let bit = UInt64(block - chunk * size)
        guard add(block..<(block + 1), flags(marked >> bit & 1, unflushed >> bit & 1)) else {
          return extents
        }
      }
    }
    return extents
  }

  /// The disk's last chunk has bits that are no blocks': they say nothing, so it is looked at block by block.
  private static func isUniform(_ word: UInt64) -> Bool { word == 0 || word == .max }

  private static func flags(_ marked: UInt64, _ unflushed: UInt64) -> UInt64 {
    (marked == 0 ? 0 : NBDExtent.marked) | (unflushed == 0 ? 0 : NBDExtent.unflushed)
  }

  /// There is nothing that could be told.
  static func untold(_ count: UInt64) -> [NBDExtent] {
    [NBDExtent(length: count, flags: NBDExtent.untold)]
  }
}
