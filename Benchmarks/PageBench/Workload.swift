import Base
import Compaction
import Crypto
import Wire

/// Batches of one sort of page, and what is done with them.
final class Workload {
  /// Sorts of pages.
  enum Sort: String, CaseIterable {
    /// Bytes drawn by lot.
    case random
    /// Random values with gaps of zeros behind them, an eighth of the page.
    case gaps
    /// Words of a small vocabulary.
    case text
    /// One word, repeated.
    case uniform
  }

  let header: BatchHeader
  private let batches: [[UInt8]]
  private let packer = BatchPacker()
  private let unpacker = BatchUnpacker()
  private var room = [UInt8](repeating: 0, count: BatchLimits.rawPagesMax * Page.size)

  /// - Parameter pageCount: rounded down to whole batches, at least one.
  init(_ sort: Sort, pageCount: Int) {
    let perBatch = BatchLimits.rawPagesMax
    header = BatchHeader(
      place: SequencedHeader(sequence: 2, after: 1),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: UInt32(perBatch))])
    var random = SplitMix64(seed: 1)
    batches = (0..<max(pageCount / perBatch, 1)).map { _ in
      (0..<perBatch).flatMap { _ in Self.page(sort, &random) }
    }
  }

  var pageCount: Int { batches.count * BatchLimits.rawPagesMax }

  private static func page(_ sort: Sort, _ random: inout SplitMix64) -> [UInt8] {
    switch sort {
    case .uniform:
      return [UInt8](repeating: UInt8(truncatingIfNeeded: random.next() | 1), count: Page.size)
    case .random: return (0..<Page.size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    case .gaps:
      var page = Self.page(.random, &random)
      let start = Int(random.next() % UInt64(Page.size * 7 / 8))
      page.replaceSubrange(
        start..<start + Page.size / 8, with: repeatElement(0, count: Page.size / 8))
      return page
    case .text:
      let words = (0..<200).map { "word\($0 * 7919 % 1000) " }
      var page: [UInt8] = []
      while page.count < Page.size { page += words[Int(random.next() % 200)].utf8 }
      return Array(page.prefix(Page.size))
    }
  }

  /// Bytes that the pages came to.
  func pack(_ effort: Effort) -> Int {
    batches.reduce(0) { sum, pages in
      // SAFETY: a view of initialized bytes, which outlive the call.
      let packed = unsafe packer.pack(header, pages.span.bytes, effort)
      return sum + pages.count - max(packed.savedBytes, 0)
    }
  }

  /// Pages that differ from their former versions in 16 words.
  func packDeltas(_ effort: Effort) -> Int {
    batches.reduce(0) { sum, pages in
      // SAFETY: as in `pack`; the difference is written to a page's room.
      let packed = unsafe packer.pack(header, pages.span.bytes, effort) { _, page, target in
        for index in target.indices { unsafe target[index] = index % 256 < 8 ? 0x5A : 0 }
        return .delta(check: PageDelta.check(page))
      }
      return sum + pages.count - max(packed.savedBytes, 0)
    }
  }

  /// What the destination has all of the pages by.
  func known(as form: Known.Form) throws -> Known { try Known(form, batches) }

  /// Pages as references, as far as they are `known`, and those that aren't as they are.
  func packReferences(_ known: Known) -> Int {
    var first = 0
    return batches.reduce(0) { sum, pages in
      // SAFETY: as in `pack`.
      var packed = unsafe packer.pack(header, pages.span.bytes, .off, mayRefer: true) {
        index, page, _ in
        known.reference(to: page, number: first + index)
      }
      first += header.rawPageCount
      if !packed.heldIdentities.isEmpty {
        packed.prove(unsafe Known.identity(of: packed.heldIdentities.span.bytes))
      }
      return sum + pages.count - max(packed.savedBytes, 0)
    }
  }

  /// Packed once, to be unpacked again and again.
  func packed(_ effort: Effort) -> [PackedBatch] {
    // SAFETY: as in `pack`.
    batches.map { unsafe packer.pack(header, $0.span.bytes, effort) }
  }

  func unpack(_ packed: [PackedBatch]) throws -> Int {
    for batch in packed {
      // SAFETY: the room holds a whole batch of pages.
      _ = try unsafe room.withUnsafeMutableBytes { target in
        try unsafe unpacker.unpack(batch.header, batch.lead.span.bytes, into: target)
      }
    }
    return pageCount
  }

  /// SHA-256 of every page.
  func identify() -> Int {
    var first: UInt8 = 0
    for pages in batches {
      for start in stride(from: 0, to: pages.count, by: Page.size) {
        var hash = SHA256()
        // SAFETY: the pointer does not leave the closure.
        unsafe pages[start..<start + Page.size].withUnsafeBytes {
          unsafe hash.update(bufferPointer: $0)
        }
        first ^= hash.finalize().first { _ in true } ?? 0
      }
    }
    return Int(first)
  }

  /// The fast hash that filters.
  func fingerprint() -> Int {
    var low: UInt64 = 0
    for pages in batches {
      // SAFETY: a view of initialized bytes, which outlive the loop.
      let span = unsafe pages.span.bytes
      for start in stride(from: 0, to: pages.count, by: Page.size) {
        low ^= PageFingerprint(of: span.extracting(start..<start + Page.size)).low
      }
    }
    return Int(truncatingIfNeeded: low)
  }
}
