import Base
import Compaction
import HostIO
import NBD

/// What the copies of a guest's disks hold that are on their way with it: the source notes the blocks as they go by, so
/// that pages with the same content can refer to them. For several threads.
///
/// Nothing is read for it. It may be wrong in any way, for a page is made of nothing unproven.
final class CopiedDisks: Sendable {
  /// All of them take at most one part in so many of the agent's memory for a migration.
  static let memoryShare: UInt64 = 8

  /// Of the hashes that contents are looked for by: drawn by lot, so that no guest can aim at them.
  private let seed: UInt64
  /// By their numbers; nil: one that is too large to be noted.
  private let disks: [Guarded<CopiedBlocks>?]

  /// Nil: there is nothing to note.
  init?(_ moving: [MovingDisk], memoryLimit: UInt64) {
    guard !moving.isEmpty else { return nil }
    let byteLimit = memoryLimit / Self.memoryShare / UInt64(moving.count)
    let disks = moving.map { disk in
      CopiedBlocks(
        byteCount: disk.claim.byteCount, takenBytes: disk.claim.takenBytes ?? disk.claim.byteCount,
        byteLimit: byteLimit
      ).map { Guarded($0) }
    }
    guard disks.contains(where: { $0 != nil }) else { return nil }
    var random = SystemRandomNumberGenerator()
    (self.disks, seed) = (disks, random.next())
  }

  /// A block of a copy that should hold the same as the page; nil: none is known.
  func find(_ content: RawSpan) -> (disk: Int, block: UInt32)? {
    let hash = SentMemory.hash(content, seed: seed)
    for (number, disk) in disks.enumerated() {
      if let block = disk?.read({ $0.find(hash) }) { return (number, block) }
    }
    return nil
  }

  /// Looks at one connection of whoever copies.
  func watch() -> Watch { Watch(self, seed) }

  struct Watch {
    private let copied: CopiedDisks
    private var watcher = WriteWatcher()
    private var cutter: BlockCutter
    private var disk: Guarded<CopiedBlocks>?
    private var changes: [BlockCutter.Change] = []

    fileprivate init(_ copied: CopiedDisks, _ seed: UInt64) {
      (self.copied, cutter) = (copied, BlockCutter(seed: seed))
    }

    /// The client sends these, behind all before them.
    mutating func passed(_ bytes: RawSpan) {
      var start = 0
      while let event = watcher.next(in: bytes, from: &start) {
        switch event {
        case .export(let name):
          let number = copied.disks.indices.first { IncomingDisks.export($0) == name }
          disk = number.flatMap { copied.disks[$0] }
        case .data(let offset, let place):
          guard disk != nil else { continue }
          cutter.take(bytes.extracting(place), at: offset, into: &changes)
        case .cleared(let offset, let length):
          cutter.clear(offset: offset, length: length, into: &changes)
        }
      }
      guard !changes.isEmpty else { return }
      disk?.update { blocks in for change in changes { blocks.apply(change) } }
      changes.removeAll(keepingCapacity: true)
    }
  }
}
