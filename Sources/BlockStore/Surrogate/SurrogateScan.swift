import Base
import DiskStrategy
import HostIO

/// Finds the records of a log that an earlier server left.
enum SurrogateScan {
  /// Reads every segment that was ever written to. A record that is torn was never answered for, or was never
  /// flushed before a power failure; what is behind it is looked for block by block.
  static func run(
    _ link: SurrogateLink, _ geometry: DiskGeometry, _ file: MapFile
  ) throws -> SurrogateIndex {
    let unitCount = SurrogateIndex.segmentUnitCount
    let unitBytes = SurrogateLink.unitByteCount
    let most = SurrogateIndex.segmentCount(byteCount: link.byteCount)
    let used = Int(clamping: file.segmentCount)
    guard used <= most else { throw MoveError("the surrogate has become smaller") }
    var index = SurrogateIndex(blockCount: geometry.blockCount, segmentCount: max(used, 1))
    let buffer = PageBuffer(byteCount: unitCount * unitBytes)
    for segment in 0..<used {
      let first = UInt64(segment * unitCount)
      // SAFETY: the buffer is this call's own.
      try unsafe link.read(at: first, into: buffer.part(0, buffer.byteCount))
      var unit = 0
      while unit < unitCount {
        let bytes = buffer.span(buffer.byteCount).extracting((unit * unitBytes)...)
        guard let record = record(bytes, link.log, geometry) else {
          unit += 1
          continue
        }
        if record.kind != .copy {
          let data = bytes.extracting(
            SurrogateRecord.headerByteCount..<(record.unitCount * unitBytes))
          let sums = SurrogateRecord.blockSums(of: data)
          index.restore(record, at: first + UInt64(unit), sums: sums)
        }
        unit += record.unitCount
      }
    }
    // Only what the file says is the newest.
    for chunk in 0..<geometry.chunkCount {
      var others = index.outsourced.word(chunk) & ~file[chunk]
      while others != 0 {
        let block = chunk << 6 + others.trailingZeroBitCount
        others &= others - 1
        index.drop(block..<(block + 1))
      }
    }
    return index
  }

  /// Adds blocks that the log had when the server before ended, and has no more: its own host lost its power, or somebody
  /// wrote there. They get a place whose content is never what it should be, so that reading them is an error. After a
  /// crash of this host there are none: its guest has crashed, too, and knows that what it didn't flush may be gone.
  ///
  /// Returns how many; from now on the file counts as in use.
  static func addLost(
    to index: inout SurrogateIndex, _ geometry: DiskGeometry, _ file: MapFile, log: UInt64
  ) throws(SystemError) -> Int {
    let isKnown = file.isKnown()
    try file.beginUse()
    var count = 0
    for chunk in 0..<geometry.chunkCount where isKnown {
      var bits = file[chunk] & ~index.outsourced.word(chunk)
      while bits != 0 {
        let block = chunk << 6 + bits.trailingZeroBitCount
        bits &= bits - 1
        let record = SurrogateRecord(
          log: log, sequence: 0, kind: .data, blocks: block..<(block + 1), dataSum: 0)
        index.restore(record, at: 0, sums: [.max])
        count += 1
      }
    }
    return count
  }

  /// The record that begins here, if it is whole.
  private static func record(
    _ bytes: RawSpan, _ log: UInt64, _ geometry: DiskGeometry
  ) -> SurrogateRecord? {
    guard
      let record = SurrogateRecord(bytes, log: log, blockCount: geometry.blockCount)
    else { return nil }
    let count = record.unitCount * SurrogateLink.unitByteCount
    guard count <= bytes.byteCount else { return nil }
    let data = bytes.extracting(SurrogateRecord.headerByteCount..<count)
    return SurrogateRecord.sum(of: data) == record.dataSum ? record : nil
  }
}
