public import Base

/// Which block of a disk image a page is the same as, and what proves it.
///
/// Layout: image u16, reserved u16 (0), block u64, identity 32 bytes; 44 bytes.
public struct DiskNote: Sendable, Hashable {
  public static let byteCount = 12 + identityByteCount
  /// SHA-256.
  public static let identityByteCount = 32

  /// Index into the list of images that the destination offered; behind all that there may be of these, the copies of disks
  /// that move along.
  public let image: UInt16
  /// In blocks of 4096 bytes from the start of the image as its guest sees it.
  public let block: UInt64
  /// What the page's content must have, else it is asked for.
  public let identity: [UInt8]

  /// - Precondition: `identity` has `identityByteCount` bytes.
  public init(image: UInt16, block: UInt64, identity: [UInt8]) {
    precondition(identity.count == Self.identityByteCount)
    (self.image, self.block, self.identity) = (image, block, identity)
  }

  /// Throws where a reserved byte isn't zero or the block lies 16 TiB or more into the image.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    image = try cursor.readBE()
    let reserved = try cursor.readBE(UInt16.self)
    block = try cursor.readBE()
    guard reserved == 0, block < 1 << 32 else {
      throw DecodeError(.badValue, in: "note of a disk block", at: start, found: block)
    }
    var identity: [UInt8] = []
    identity.append(contentsOf: try cursor.take(Self.identityByteCount))
    self.identity = identity
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(image)
    out.appendBE(UInt16(0))
    out.appendBE(block)
    out += identity
  }
}
