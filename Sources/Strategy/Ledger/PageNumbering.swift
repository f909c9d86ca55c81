/// One number for every page of every RAM block, so that one bitmap describes all of guest RAM.
///
/// Blocks lie one after the other in the order of the stream, each at a multiple of 64 pages and with
/// at least one page of gap, so that consecutive numbers are always consecutive pages of one block.
public struct PageNumbering: Sendable, Hashable {
  /// First number of each block.
  public let bases: [Int]
  /// Pages of each block.
  public let counts: [Int]
  /// Numbers in use, gaps included.
  public let limit: Int

  /// - Parameter blockPages: pages of each RAM block.
  public init(blockPages: [Int]) {
    var bases: [Int] = []
    var next = 0
    for count in blockPages {
      bases.append(next)
      next = (next + count) / 64 * 64 + 64
    }
    (self.bases, counts, limit) = (bases, blockPages, next)
  }

  /// All pages, without gaps.
  public var pageCount: Int { counts.reduce(0, +) }

  /// The number of page `page` of block `block`; both in range.
  public func number(block: Int, page: Int) -> Int { bases[block] + page }

  /// The block of a number that stands for a page.
  public func block(of number: Int) -> Int {
    var (low, high) = (0, bases.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if bases[middle] <= number { low = middle } else { high = middle }
    }
    return low
  }
}
