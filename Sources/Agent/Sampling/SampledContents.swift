import Base
import Compaction
import HostIO
import Strategy
import Wire

/// What a part of a sample holds: read once, to find out what it would cost on the network.
///
/// Takes 4096 bytes for each page looked at.
final class SampledContents: Sendable {
  /// Pages that are looked at, at most twice as many.
  static let pagesMax = 1024

  /// Where a page is: its block among those of the memory, and its number within that.
  struct Place: Sendable, Hashable {
    let block: Int
    let page: UInt64
  }

  /// Of the pages that hold something other than zeros.
  let places: [Place]
  /// Pages looked at, those of zeros among them, and pages that they stand for.
  let lookedPages, ramPages: UInt64
  /// Their contents, one after the other.
  private let buffer: PageBuffer

  /// Reads them. Blocks.
  init(_ sample: PageSample, of memory: SampledMemory) throws(SystemError) {
    var sample = sample
    sample.thin(sample.pages.count / Self.pagesMax)
    let buffer = PageBuffer(byteCount: max(sample.pages.count, 1) * Page.size)
    var places: [Place] = []
    for page in sample.pages {
      guard let block = memory.blocks.lastIndex(where: { $0.firstPage <= page }) else { continue }
      let number = page - memory.blocks[block].firstPage
      let start = places.count * Page.size
      guard try memory.read(memory.blocks[block], number, buffer, at: start),
        !buffer.span(start + Page.size).extracting(start...).isAllZero
      else { continue }
      places.append(Place(block: block, page: number))
    }
    (self.places, self.buffer) = (places, buffer)
    (lookedPages, ramPages) = (UInt64(sample.pages.count), sample.ramPages)
  }

  /// Shows each page that holds something, by its number in `places`.
  func forEach(_ body: (Int, RawSpan) throws -> Void) rethrows {
    let buffer = buffer
    for index in places.indices {
      let start = index * Page.size
      try body(index, buffer.span(start + Page.size).extracting(start...))
    }
  }

  /// What packing pages comes to.
  struct Packing: Sendable, Equatable {
    /// What they cost packed, in thousandths of their size.
    let permille: UInt64
    /// What one thread takes for a page, in nanoseconds.
    let pageNs: UInt64
  }

  /// What the pages cost once they are packed, and how long that takes here and now; nil: there are none.
  ///
  /// - Parameters:
  ///   - effort: LZ4, as a migration with little time does it, or zstd, as one over a slow link.
  ///   - isLeftOut: by page: it would not be sent.
  ///   - nowUs: the clock.
  func packing(
    _ effort: Effort = .lz4, without isLeftOut: [Bool] = [],
    nowUs: () -> UInt64 = { MonotonicClock.nowUs }
  ) -> Packing? {
    let batch = PageBuffer(byteCount: BatchLimits.rawPagesMax * Page.size)
    let packer = BatchPacker()
    var times = PageTimes()
    var (full, packed, held) = (0, 0, 0)
    func pack() {
      guard held > 0 else { return }
      let beganUs = nowUs()
      let header = BatchHeader(
        place: SequencedHeader(sequence: 1, after: 0),
        runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: UInt32(held))])
      let saved = unsafe packer.pack(header, batch.span(held * Page.size), effort).savedBytes
      times.note(pages: held, us: nowUs().minusFloored(beganUs))
      full += held * Page.size
      packed += held * Page.size - max(saved, 0)
      held = 0
    }
    forEach { index, content in
      guard !(isLeftOut.indices.contains(index) && isLeftOut[index]) else { return }
      batch.store(content, at: held * Page.size)
      held += 1
      if held == BatchLimits.rawPagesMax { pack() }
    }
    pack()
    return times.medianNs.map { Packing(permille: UInt64(packed * 1000 / full), pageNs: $0) }
  }
}
