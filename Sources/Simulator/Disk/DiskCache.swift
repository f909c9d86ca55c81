import Base

/// The host's page cache: the blocks that were read or written last, as many as fit.
struct DiskCache {
  private let capacity: Int
  private var cached: PageBitmap
  /// In the order in which they came in, with those that have left since.
  private var entered: [Int] = []
  private var oldest = 0

  init(byteCount: UInt64, blockCount: Int) {
    capacity = Int(clamping: byteCount >> 12)
    cached = PageBitmap(count: blockCount)
  }

  func holds(_ blocks: Range<Int>) -> Bool { blocks.allSatisfy { cached[$0] } }

  mutating func add(_ blocks: Range<Int>) {
    guard capacity > 0 else { return }
    for block in blocks where cached.insert(block) { entered.append(block) }
    while entered.count - oldest > capacity {
      _ = cached.remove(entered[oldest])
      oldest += 1
    }
    if oldest > 4096, oldest * 2 > entered.count {
      entered.removeFirst(oldest)
      oldest = 0
    }
  }
}
