import Base
import BlockStore
import HostIO

/// What a disk's clients would have changed since its snapshot, had they been there for longer.
enum DiskAging {
  /// Which blocks are changed. Pure.
  static func blocks(_ disk: MatrixDisk, seed: UInt64) -> Set<UInt64> {
    let wanted = Int(clamping: disk.changedByteCount / UInt64(disk.load.blockBytes))
    var (random, chosen) = (SplitMix64(seed: ~seed), Set<UInt64>())
    // In order they would all be at the disk's start.
    let own = disk.load.pattern
    let pattern: MatrixDisk.Load.Pattern = own == .sequential ? .uniform : own
    var picker = BlockPicker(pattern, count: disk.usedBlockCount, hot: disk.hotBlockCount)
    // A disk has room for twice as many (`MatrixDisk.problem`).
    while chosen.count < wanted { chosen.insert(picker.next(&random)) }
    return chosen
  }

  /// Writes them, through the server, in their next version. Blocks.
  ///
  /// - Returns: the version of each block of the disk.
  static func change(
    _ disk: MatrixDisk, socket path: String, export name: String, seed: UInt64
  ) throws -> [UInt64] {
    var versions = [UInt64](repeating: 0, count: Int(clamping: disk.blockCount))
    guard disk.changedByteCount > 0 else { return versions }
    let remote = try RemoteStore(
      over: try UnixSocket.connect(path: path), exportName: name, isReadOnly: false)
    defer { remote.close() }
    let content = BlockContent(seed: seed, blockBytes: disk.load.blockBytes)
    var words = [UInt64](repeating: 0, count: content.wordCount)
    for block in blocks(disk, seed: seed).sorted() {
      content.fill(&words, block: block, version: 1)
      // SAFETY: the array's own bytes, for the call alone.
      try unsafe words.withUnsafeBytes { raw in
        try unsafe remote.write(
          raw, at: block * UInt64(disk.load.blockBytes), durable: false)
      }
      versions[Int(clamping: block)] = 1
    }
    return versions
  }
}
