public import Base

/// Which page of another guest of the gang a page is the same as, and what proves it.
///
/// Layout: member u16, block u16, page u64, identity 32 bytes; 44 bytes.
public struct GangNote: Sendable, Hashable {
  public static let byteCount = 12 + identityByteCount
  /// SHA-256.
  public static let identityByteCount = 32

  /// The guest, by its number in the gang.
  public let member: UInt16
  /// Index into the RAM block list of that guest's stream.
  public let block: UInt16
  /// In pages from the start of the block.
  public let page: UInt64
  /// What the page's content must have, else it is asked for.
  public let identity: [UInt8]

  /// - Precondition: `identity` has `identityByteCount` bytes.
  public init(member: UInt16, block: UInt16, page: UInt64, identity: [UInt8]) {
    precondition(identity.count == Self.identityByteCount)
    (self.member, self.block, self.page, self.identity) = (member, block, page, identity)
  }

  /// Throws where the page is 2^52 or above; whether such a guest, block and page exist isn't known
  /// here.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    member = try cursor.readBE()
    block = try cursor.readBE()
    page = try cursor.readBE()
    guard page < 1 << 52 else {
      throw DecodeError(.badValue, in: "note of a gang's page", at: start, found: page)
    }
    var identity: [UInt8] = []
    identity.append(contentsOf: try cursor.take(Self.identityByteCount))
    self.identity = identity
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(member)
    out.appendBE(block)
    out.appendBE(page)
    out += identity
  }
}
