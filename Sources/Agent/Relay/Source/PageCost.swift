import Base
import HostIO

/// What a page of a guest costs on the wire, looked up before anything is sent.
enum PageCost {
  /// Pages that are looked at: the share of zeros is then known within five points, 19 times of 20.
  private static let sampleCount: UInt64 = 512

  /// Mean wire bytes per page, from pages spread evenly over shared guest memory; nil when there is none.
  static func sampled(_ blocks: some Collection<SharedFile>) -> UInt64? {
    let total = blocks.reduce(0) { $0 + $1.length / UInt64(Page.size) }
    guard total > 0 else { return nil }
    let step = max(total / sampleCount, 1)
    let page = PageBuffer(byteCount: Page.size)
    var (looked, full): (UInt64, UInt64) = (0, 0)
    for block in blocks {
      for number in stride(from: 0, to: block.length / UInt64(Page.size), by: Int(step)) {
        looked += 1
        guard (try? holdsData(block, number << UInt64(Page.shift), page)) ?? true else { continue }
        full += 1
      }
    }
    guard looked > 0 else { return nil }
    return max(full * UInt64(Page.size) / looked, 1)
  }

  private static func holdsData(
    _ block: SharedFile, _ position: UInt64, _ page: PageBuffer
  ) throws(SystemError) -> Bool {
    guard try block.mayHoldData(at: position, count: Page.size) else { return false }
    try unsafe block.read(at: position, into: page.part(0, Page.size))
    return unsafe page.part(0, Page.size).contains { $0 != 0 }
  }
}
