public import Base

/// What a destination could make one pulled page of, as far as the source knows.
public enum PullIdentity: Sendable, Hashable {
  /// Of nothing: the page is to be asked for.
  case unknown
  /// Of the snapshot at the destination, at the same place: SHA-256 of the page's content.
  case held([UInt8])
  /// Of a block of an image that was offered.
  case disk(DiskNote)
  /// Of a stored page of a snapshot that was offered, wherever it lay. Only to a destination that knows of these.
  case vault(VaultNote)

  static let byteCountMax = 1 + max(DiskNote.byteCount, VaultNote.byteCount)
}

/// The payload of a `pullIdentities` frame, source to destination: what proves pages of one block that follow each
/// other, for a guest that runs there and lacks them. Only in answer to a request of `identities`. Like all frames of
/// a pull it is not numbered: what is lost is asked for again.
///
/// Layout: block u16, pages u16, first page u64; for each page a kind u8 (0 unknown, 1 held, 2 disk, 3 vault), behind it
/// 32 bytes of identity where it is held, a `DiskNote` where it is a block, a `VaultNote` where it is stored elsewhere.
public struct PullIdentities: Sendable, Hashable {
  /// Pages in one frame.
  public static let pagesMax = 128
  static let headByteCount = 12
  public static let byteCountMax = headByteCount + pagesMax * PullIdentity.byteCountMax

  /// Index into the RAM block list of the stream.
  public let block: UInt16
  /// In pages from the start of the block.
  public let firstPage: UInt64
  /// Of the pages from `firstPage` on; `1...pagesMax`.
  public let identities: [PullIdentity]

  /// - Precondition: `1...pagesMax` identities; those that are `held` have 32 bytes.
  public init(block: UInt16, firstPage: UInt64, identities: [PullIdentity]) {
    precondition((1...Self.pagesMax).contains(identities.count))
    (self.block, self.firstPage, self.identities) = (block, firstPage, identities)
  }

  /// Throws where the number of pages isn't allowed, a kind isn't known, a note is malformed, or
  /// bytes follow.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    block = try cursor.readBE()
    let count = Int(try cursor.readBE(UInt16.self))
    firstPage = try cursor.readBE()
    guard (1...Self.pagesMax).contains(count), firstPage < 1 << 52 else {
      throw DecodeError(
        .overLimit, in: "identities of pages", at: 2, found: UInt64(count),
        limit: UInt64(Self.pagesMax))
    }
    var identities: [PullIdentity] = []
    identities.reserveCapacity(count)
    for _ in 0..<count {
      let kind = try cursor.readBE(UInt8.self)
      switch kind {
      case 0: identities.append(.unknown)
      case 1:
        var identity: [UInt8] = []
        identity.append(contentsOf: try cursor.take(DiskNote.identityByteCount))
        identities.append(.held(identity))
      case 2: identities.append(.disk(try DiskNote(decoding: &cursor)))
      case 3: identities.append(.vault(try VaultNote(decoding: &cursor)))
      default:
        throw DecodeError(
          .badValue, in: "identity of a page", at: UInt64(cursor.position - 1), found: UInt64(kind))
      }
    }
    self.identities = identities
    try cursor.expectEnd(of: "identities of pages")
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(block)
    out.appendBE(UInt16(truncatingIfNeeded: identities.count))  // <= pagesMax
    out.appendBE(firstPage)
    for identity in identities {
      switch identity {
      case .unknown: out.append(0)
      case .held(let identity):
        out.append(1)
        out += identity
      case .disk(let note):
        out.append(2)
        note.encode(into: &out)
      case .vault(let note):
        out.append(3)
        note.encode(into: &out)
      }
    }
  }
}
