import Base
import Compaction
import Strategy
import Wire

/// Pages that a source has given to a guest which runs at the destination, by the way they went.
struct PullTally: Sendable, Hashable {
  var zeroPages: UInt64 = 0
  var rawPages: UInt64 = 0
  var uniformPages: UInt64 = 0
  var compressedPages: UInt64 = 0
  /// Bytes of their frames, headers included.
  var wireBytes: UInt64 = 0

  init() {}

  /// Of one frame.
  ///
  /// - Parameter packed: the same pages as they go; nil: as they are.
  init(_ header: BatchHeader, _ packed: PackedBatch?) {
    zeroPages = UInt64(header.zeroPageCount)
    guard let packed else {
      rawPages = UInt64(header.rawPageCount)
      wireBytes = UInt64(
        FrameHeader.byteCount + header.byteCount + header.rawPageCount * Page.size)
      return
    }
    rawPages = UInt64(packed.rawPages.count)
    uniformPages = UInt64(packed.header.kinds.count { $0 == .uniform })
    compressedPages = UInt64(packed.header.kinds.count { $0 == .compressed })
    wireBytes = UInt64(
      FrameHeader.byteCount + packed.header.byteCount + packed.lead.count
        + packed.rawPages.count * Page.size)
  }

  var pages: UInt64 { zeroPages + rawPages + packedPages }
  /// Those that were made small.
  var packedPages: UInt64 { uniformPages + compressedPages }

  /// What a page was on the wire on average; nil before any went.
  var wireBytesPerPage: UInt64? { pages > 0 ? max(wireBytes / pages, 1) : nil }

  mutating func add(_ other: Self) {
    zeroPages += other.zeroPages
    rawPages += other.rawPages
    uniformPages += other.uniformPages
    compressedPages += other.compressedPages
    wireBytes += other.wireBytes
  }
}

extension MigrationRecord {
  /// Pages that a pull gave count in their classes, as those of the copy do.
  ///
  /// - Parameter packingMs: time that making them small took, in milliseconds; nil: they went as they are.
  mutating func noteGiven(_ given: PullTally, packingMs: UInt64?) {
    pull?.wireBytes = given.wireBytes
    pages.zero = pages.zero.map { $0.addingSaturating(given.zeroPages) }
    pages.raw = pages.raw.map { $0.addingSaturating(given.rawPages) }
    guard let packingMs else { return }
    pull?.packedPages = given.packedPages
    pages.uniform = pages.uniform.map { $0.addingSaturating(given.uniformPages) }
    pages.compressed = pages.compressed.map { $0.addingSaturating(given.compressedPages) }
    encodeMs = encodeMs.map { $0.addingSaturating(packingMs) }
  }
}
