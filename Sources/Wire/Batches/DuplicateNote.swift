public import Base

/// Where the destination finds a page that is the same, and what proves it.
///
/// Layout: block u16, reserved u16 (0), page u64, identity 32 bytes; 44 bytes.
public struct DuplicateNote: Sendable, Hashable {
  public static let byteCount = 12 + identityByteCount
  /// SHA-256.
  public static let identityByteCount = 32

  /// Index into the RAM block list of the stream.
  public let block: UInt16
  /// In pages from the start of the block.
  public let page: UInt64
  /// What the page's content must have, else it is asked for.
  public let identity: [UInt8]

  /// - Precondition: `identity` has `identityByteCount` bytes.
  public init(block: UInt16, page: UInt64, identity: [UInt8]) {
    precondition(identity.count == Self.identityByteCount)
    (self.block, self.page, self.identity) = (block, page, identity)
  }

  /// Throws where a reserved byte isn't zero or the page is 2^52 or above; whether the block and
  /// the page exist isn't known here.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    block = try cursor.readBE()
    let reserved = try cursor.readBE(UInt16.self)
    page = try cursor.readBE()
    guard reserved == 0, page < 1 << 52 else {
      throw DecodeError(.badValue, in: "note of a duplicate", at: start, found: page)
    }
    var identity: [UInt8] = []
    identity.append(contentsOf: try cursor.take(Self.identityByteCount))
    self.identity = identity
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(block)
    out.appendBE(UInt16(0))
    out.appendBE(page)
    out += identity
  }
}
