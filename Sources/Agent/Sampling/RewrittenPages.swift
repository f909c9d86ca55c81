import Base
import Compaction
import HostIO
import QEMUStream
import Strategy
import Wire

/// Pages that the guest goes on changing: what they held in the middle of the looks, and what they hold after the last
/// one. What it takes to send them, and to send them again, is found out with the encoder's own means.
///
/// Takes 8192 bytes for each page.
final class RewrittenPages: Sendable {
  /// Pages whose contents are kept, at most: 2 MiB of them.
  static let pagesMax = 512
  /// Fewer changed pages say too little.
  static let pagesMin = 8
  /// Room for the versions before and what is known of them.
  private static let memoryBytes: UInt64 = 4 << 20

  /// What pages hold at one time.
  struct Kept: Sendable {
    /// Numbers among all sampled pages.
    let pages: [UInt64]
    /// Their contents, one after the other.
    fileprivate let buffer: PageBuffer

    /// Reads them. Blocks.
    init(_ pages: [UInt64], of memory: SampledMemory) throws(SystemError) {
      self.pages = pages
      // What nobody ever touched is not read, and is zeros.
      buffer = PageBuffer.zeroed(byteCount: max(pages.count, 1) * Page.size)
      for (index, page) in pages.enumerated() {
        guard let block = memory.blocks.last(where: { $0.firstPage <= page }) else { continue }
        _ = try memory.read(block, page - block.firstPage, buffer, at: index * Page.size)
      }
    }

    /// Shows one of them, by its number in `pages`.
    fileprivate func show<Result>(_ index: Int, to body: (RawSpan) -> Result) -> Result {
      let buffer = buffer
      let start = index * Page.size
      return body(buffer.span(start + Page.size).extracting(start...))
    }
  }

  private let before, after: Kept
  /// By number in either: those that differ.
  private let changed: [Int]

  /// Reads the pages again; nil where too few have changed. Blocks.
  init?(_ before: Kept, of memory: SampledMemory) throws(SystemError) {
    let after = try Kept(before.pages, of: memory)
    let changed = before.pages.indices.filter { index in
      before.show(index, to: PageDelta.check) != after.show(index, to: PageDelta.check)
    }
    guard changed.count >= Self.pagesMin else { return nil }
    (self.before, self.after, self.changed) = (before, after, changed)
  }

  /// Pages that have changed.
  var changedCount: Int { changed.count }

  /// What the changed pages cost, and how long packing one takes here and now. Pages of zeros cost nothing.
  ///
  /// - Parameters:
  ///   - again: they were sent as they were before, so that the difference may go. What they have in common with other pages
  ///     is left out: of so few that would say nothing of all.
  ///   - nowUs: the clock.
  func packing(
    _ effort: Effort, again: Bool = false, nowUs: () -> UInt64 = { MonotonicClock.nowUs }
  ) -> SampledContents.Packing {
    let references = again ? sent() : nil
    let batch = PageBuffer(byteCount: BatchLimits.rawPagesMax * Page.size)
    let packer = BatchPacker()
    var times = PageTimes()
    var (numbers, packedBytes): ([Int], Int) = ([], 0)
    func pack() {
      guard !numbers.isEmpty else { return }
      let beganUs = nowUs()
      let header = BatchHeader(
        place: SequencedHeader(sequence: 2, after: 0),
        runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: UInt32(numbers.count))])
      var pages = numbers.map {
        SentReferences.Page(block: 0, number: UInt64($0), hash: nil)
      }
      let contents = batch.span(numbers.count * Page.size)
      let packed = unsafe packer.pack(header, contents, effort, mayRefer: again) {
        index, content, target in
        unsafe references?.find(&pages[index], content, for: 2, into: target)?.reference
      }
      times.note(pages: numbers.count, us: nowUs().minusFloored(beganUs))
      packedBytes += numbers.count * Page.size - max(packed.savedBytes, 0)
      numbers = []
    }
    for index in changed {
      let isZero = after.show(index) { content in
        guard !content.isAllZero else { return true }
        batch.store(content, at: numbers.count * Page.size)
        return false
      }
      guard !isZero else { continue }
      numbers.append(index)
      if numbers.count == BatchLimits.rawPagesMax { pack() }
    }
    pack()
    return SampledContents.Packing(
      permille: UInt64(packedBytes * 1000 / (changed.count * Page.size)),
      pageNs: times.medianNs ?? 0)
  }

  /// The destination has all pages as they were before.
  private func sent() -> SentReferences {
    let block = RAMBlock(name: "sampled", length: UInt64(before.pages.count) << UInt64(Page.shift))
    let references = SentReferences(
      readable: [block.name], byteLimit: Self.memoryBytes, blocks: { [block] })
    let run = PageRun(
      block: 0, pageClass: .raw, firstPage: 0, count: UInt32(before.pages.count))
    _ = references.numbering([run])
    let pages = before.pages.indices.map {
      SentReferences.Page(block: 0, number: UInt64($0), hash: nil)
    }
    let buffer = before.buffer
    references.sent(pages, buffer.span(pages.count * Page.size), runs: [run], sequence: 1)
    return references
  }
}
