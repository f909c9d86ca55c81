import Base

/// How the content of a page crosses the network.
public enum PageClass: UInt8, Sendable, CaseIterable {
  /// All bytes zero: nothing follows.
  case zero = 0
  /// 4096 bytes a page follow, in the order of the runs.
  case raw = 1
}

/// Consecutive pages of one RAM block that travel in the same class.
///
/// Layout: block u16, class u8, reserved u8 (0), count u32, first page u64; 16 bytes.
public struct PageRun: Sendable, Hashable {
  public static let byteCount = 16

  /// Index into the RAM block list of the stream.
  public let block: UInt16
  public let pageClass: PageClass
  /// Index of the first page within the block, in pages.
  public let firstPage: UInt64
  /// Pages, at least 1.
  public private(set) var count: UInt32

  /// - Precondition: `count > 0`.
  public init(block: UInt16, pageClass: PageClass, firstPage: UInt64, count: UInt32) {
    precondition(count > 0)
    (self.block, self.pageClass) = (block, pageClass)
    (self.firstPage, self.count) = (firstPage, count)
  }

  /// Takes `page` in when it continues the run; says whether it did.
  @inlinable public mutating func extend(
    block: UInt16, pageClass: PageClass, page: UInt64
  ) -> Bool {
    guard block == self.block, pageClass == self.pageClass, page == firstPage &+ UInt64(count)
    else { return false }
    grow()
    return true
  }

  @usableFromInline mutating func grow() { count += 1 }

  init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    block = try cursor.readBE()
    let rawClass: UInt8 = try cursor.readBE()
    guard let pageClass = PageClass(rawValue: rawClass) else {
      throw DecodeError(.badValue, in: "page class", at: start + 2, found: UInt64(rawClass))
    }
    self.pageClass = pageClass
    let reserved = try cursor.readBE(UInt8.self)
    count = try cursor.readBE()
    firstPage = try cursor.readBE()
    guard reserved == 0, count > 0, firstPage < 1 << 52, UInt64(count) < 1 << 52 else {
      throw DecodeError(.badValue, in: "page run", at: start + 4, found: firstPage)
    }
  }

  func encode(into out: inout [UInt8]) {
    out.appendBE(block)
    out.append(pageClass.rawValue)
    out.append(0)
    out.appendBE(count)
    out.appendBE(firstPage)
  }
}
