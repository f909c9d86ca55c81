public import Base

/// Pages that a destination's QEMU asks for, because its guest waits for them.
public struct PageRequest: Sendable, Hashable {
  /// Number in the block list.
  public let block: Int
  /// In pages from the start of the block.
  public let firstPage: UInt64
  /// At least 1, and inside the block.
  public let count: UInt64

  public init(block: Int, firstPage: UInt64, count: UInt64) {
    (self.block, self.firstPage, self.count) = (block, firstPage, count)
  }
}

/// Reads what `ReturnPathMessage.requestPages` means: QEMU names a block only when it is another one
/// than in the request before. Its requests are not trusted.
public struct PageRequestReader: Sendable {
  /// Pages in one request, at most: QEMU asks for one page of the host, which has 1 GiB at most.
  public static let pagesMax: UInt64 = 1 << 18

  public let blocks: [RAMBlock]
  private let index: [String: Int]
  /// The block named last.
  private var last: Int?

  /// `blocks` in the order of RAM's START section; the numbers in requests are places in it.
  public init(blocks: [RAMBlock]) {
    self.blocks = blocks
    var index: [String: Int] = [:]
    for (number, block) in blocks.enumerated() { index[block.name] = number }
    self.index = index
  }

  /// - Parameter block: nil: the one named last.
  public mutating func request(
    start: UInt64, length: UInt32, block: String?
  ) throws(DecodeError) -> PageRequest {
    if let block {
      guard let number = index[block] else {
        throw DecodeError(.badName, in: "block of a page request", at: 0)
      }
      last = number
    }
    guard let number = last else {
      throw DecodeError(
        .outOfOrder, in: "page request before any block's name", at: 0, found: start)
    }
    let mask = UInt64(Page.size - 1)
    guard start & mask == 0 else {
      throw DecodeError(
        .unaligned, in: "start of a page request", at: 0, found: start, limit: mask + 1)
    }
    guard length > 0, UInt64(length) & mask == 0 else {
      throw DecodeError(
        .unaligned, in: "length of a page request", at: 0, found: UInt64(length), limit: mask + 1)
    }
    let count = UInt64(length) >> UInt64(Page.shift)
    guard count <= Self.pagesMax else {
      throw DecodeError(
        .overLimit, in: "pages of a page request", at: 0, found: count, limit: Self.pagesMax)
    }
    let size = blocks[number].length
    guard start < size, UInt64(length) <= size - start else {
      throw DecodeError(.overLimit, in: "page request", at: 0, found: start, limit: size)
    }
    return PageRequest(block: number, firstPage: start >> UInt64(Page.shift), count: count)
  }
}
