public import Base

/// Which stored page of a snapshot at the destination a page is the same as, wherever it lay there, and what proves it.
///
/// Layout: snapshot u16, reserved u16 (0), page u64, identity 32 bytes; 44 bytes.
public struct VaultNote: Sendable, Hashable {
  public static let byteCount = 12 + identityByteCount
  /// SHA-256.
  public static let identityByteCount = 32

  /// 0: the one whose pages are held at the same place; those behind it in the order in which they were offered.
  public let snapshot: UInt16
  /// Its number among the snapshot's stored pages, in the order of their places; below 2^34.
  public let page: UInt64
  /// What the page's content must have, else it is asked for.
  public let identity: [UInt8]

  /// - Precondition: `identity` has `identityByteCount` bytes.
  public init(snapshot: UInt16, page: UInt64, identity: [UInt8]) {
    precondition(identity.count == Self.identityByteCount)
    (self.snapshot, self.page, self.identity) = (snapshot, page, identity)
  }

  /// Throws where a reserved byte isn't zero or the page is 2^34 or above.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    snapshot = try cursor.readBE()
    let reserved = try cursor.readBE(UInt16.self)
    page = try cursor.readBE()
    guard reserved == 0, page < 1 << 34 else {
      throw DecodeError(.badValue, in: "note of a kept page", at: start, found: page)
    }
    var identity: [UInt8] = []
    identity.append(contentsOf: try cursor.take(Self.identityByteCount))
    self.identity = identity
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(snapshot)
    out.appendBE(UInt16(0))
    out.appendBE(page)
    out += identity
  }
}
