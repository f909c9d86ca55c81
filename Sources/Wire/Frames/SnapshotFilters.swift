public import Base

/// The payload of a `snapshotFilters` frame, destination to source: which pages of one block a snapshot at the
/// destination holds, and a fast hash of each. Numbered like every frame that must survive a broken connection.
///
/// Layout: block u16, flags u8 (1: last), reserved u8 (0), pages u32, first page u64; one bit for each page that
/// is set where it is held, the lowest first, the rest of the last byte 0; a filter u64 for each bit that is set.
public struct SnapshotFilters: Sendable, Hashable {
  /// Pages that one frame tells of: 64 MiB of RAM.
  public static let pagesMax = 16384
  static let headByteCount = 16
  public static let byteCountMax = headByteCount + pagesMax / 8 + pagesMax * 8

  /// Index into the blocks of the snapshot, as they were offered. Behind them one for each further snapshot that was
  /// offered, as if all of its stored pages, in their order, were one block.
  public let block: UInt16
  /// No further frame follows.
  public let isLast: Bool
  /// In pages from the start of the block.
  public let firstPage: UInt64
  /// By page from `firstPage` on; nil where nothing is held, or only zeros.
  public let filters: [UInt64?]

  /// - Precondition: `pagesMax` filters at most.
  public init(block: UInt16, isLast: Bool, firstPage: UInt64, filters: [UInt64?]) {
    precondition(filters.count <= Self.pagesMax)
    (self.block, self.isLast, self.firstPage, self.filters) = (block, isLast, firstPage, filters)
  }

  /// Throws where flags aren't known, `pagesMax` is exceeded, the first page is 2^48 or above, bits
  /// behind the last page are set, or the payload has another length than its bits say.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    block = try cursor.readBE()
    let flags = try cursor.readBE(UInt8.self)
    let reserved = try cursor.readBE(UInt8.self)
    guard flags <= 1, reserved == 0 else {
      throw DecodeError(
        .badValue, in: "flags of filters", at: 2, found: UInt64(flags) << 8 | UInt64(reserved))
    }
    isLast = flags == 1
    let count = Int(try cursor.readBE(UInt32.self))
    firstPage = try cursor.readBE()
    guard count <= Self.pagesMax, firstPage < 1 << 48 else {
      throw DecodeError(
        .overLimit, in: "pages of filters", at: 4, found: UInt64(count),
        limit: UInt64(Self.pagesMax))
    }
    var bits: [UInt8] = []
    bits.append(contentsOf: try cursor.take((count + 7) / 8))
    if count % 8 != 0, let last = bits.last, last >> UInt8(count % 8) != 0 {
      throw DecodeError(
        .badValue, in: "bits of filters", at: UInt64(cursor.position - 1), found: UInt64(last))
    }
    var filters = [UInt64?](repeating: nil, count: count)
    for page in 0..<count where bits[page / 8] >> UInt8(page % 8) & 1 == 1 {
      filters[page] = try cursor.readBE(UInt64.self)
    }
    self.filters = filters
    try cursor.expectEnd(of: "filters of a snapshot")
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(block)
    out.append(isLast ? 1 : 0)
    out.append(0)
    out.appendBE(UInt32(truncatingIfNeeded: filters.count))  // <= pagesMax
    out.appendBE(firstPage)
    var bits = [UInt8](repeating: 0, count: (filters.count + 7) / 8)
    for (page, filter) in filters.enumerated() where filter != nil {
      bits[page / 8] |= 1 << UInt8(page % 8)
    }
    out += bits
    for case .some(let filter) in filters { out.appendBE(filter) }
  }
}
