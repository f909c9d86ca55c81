import Base
import Compaction
import HostIO
import Wire

/// What a page of a guest costs on the wire, looked up before anything is sent.
enum PageCost {
  /// Pages that are looked at: the share of zeros is then known within five points, 19 times of 20.
  private static let sampleCount: UInt64 = 512

  /// Mean wire bytes per page, from pages spread evenly over shared guest memory; nil when there is none.
  ///
  /// - Parameter isCompacted: pages are made smaller on their way, at least as LZ4 does it.
  static func sampled(_ blocks: some Collection<SharedFile>, isCompacted: Bool) -> UInt64? {
    let total = blocks.reduce(0) { $0 + $1.length / UInt64(Page.size) }
    guard total > 0 else { return nil }
    let step = max(total / sampleCount, 1)
    let batch = PageBuffer(byteCount: BatchLimits.rawPagesMax * Page.size)
    let packer = BatchPacker()
    var (looked, gathered, bytes): (UInt64, Int, UInt64) = (0, 0, 0)
    for block in blocks {
      for number in stride(from: 0, to: block.length / UInt64(Page.size), by: Int(step)) {
        looked += 1
        let place = unsafe batch.part(gathered * Page.size, Page.size)
        let hasData = unsafe try? Self.holdsData(block, number << UInt64(Page.shift), place)
        guard hasData ?? true else { continue }
        gathered += 1
        guard gathered == BatchLimits.rawPagesMax else { continue }
        bytes += cost(batch, pages: gathered, isCompacted ? packer : nil)
        gathered = 0
      }
    }
    bytes += cost(batch, pages: gathered, isCompacted ? packer : nil)
    guard looked > 0 else { return nil }
    return max(bytes / looked, 1)
  }

  /// Bytes of a batch of these pages; nil: they go as they are.
  private static func cost(_ batch: PageBuffer, pages: Int, _ packer: BatchPacker?) -> UInt64 {
    let plain = UInt64(pages * Page.size)
    guard pages > 0, let packer else { return plain }
    let run = PageRun(block: 0, pageClass: .raw, firstPage: 0, count: UInt32(pages))
    let header = BatchHeader(place: SequencedHeader(sequence: 1, after: 0), runs: [run])
    let packed = unsafe packer.pack(header, batch.span(pages * Page.size), .lz4)
    return plain - UInt64(max(packed.savedBytes, 0))
  }

  private static func holdsData(
    _ block: SharedFile, _ position: UInt64, _ page: UnsafeMutableRawBufferPointer
  ) throws(SystemError) -> Bool {
    guard try block.mayHoldData(at: position, count: Page.size) else { return false }
    try unsafe block.read(at: position, into: page)
    return unsafe page.contains { $0 != 0 }
  }
}
