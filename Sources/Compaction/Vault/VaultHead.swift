public import Base
import Wire

/// What a snapshot is of: the start of its file.
///
/// Layout, big-endian: magic u64 `GWVAULT1`, bytes of the whole head u32, reserved u32 (0), id 16 bytes, taken
/// at i64, seed u64, guest's name and its UUID (u16 and as many bytes each), count of blocks u16, blocks (u16
/// and as many bytes of name, pages u64), checksum u64 (`FrameChecksum`) of everything before it.
public struct VaultHead: Sendable, Hashable {
  /// A RAM block of the guest, by the name that it has in QEMU's stream.
  public struct Block: Sendable, Hashable {
    public let name: String
    public let pages: UInt64

    public init(name: String, pages: UInt64) { (self.name, self.pages) = (name, pages) }
  }

  /// `GWVAULT1`.
  static let magic: UInt64 = 0x4757_5641_554C_5431
  /// Bytes from which the length of the whole can be read.
  public static let fixedByteCount = 16
  public static let byteCountMax =
    64 + 2 * VaultLimits.guestNameMax + VaultLimits.blocksMax * (10 + VaultLimits.blockNameMax)

  public let id: VaultID
  /// Seconds since 1970, at least 0.
  public let takenAt: Int64
  /// Of the filters: drawn by lot for each snapshot, so that no guest can aim at them.
  public let seed: UInt64
  public let guest: String
  public let uuid: String
  public let blocks: [Block]

  /// Nil when it is over the limits.
  public init?(
    id: VaultID, takenAt: Int64, seed: UInt64, guest: String, uuid: String, blocks: [Block]
  ) {
    (self.id, self.takenAt, self.seed) = (id, takenAt, seed)
    (self.guest, self.uuid, self.blocks) = (guest, uuid, blocks)
    guard takenAt >= 0, guest.utf8.count <= VaultLimits.guestNameMax,
      uuid.utf8.count <= VaultLimits.guestNameMax, Self.areSound(blocks)
    else { return nil }
  }

  private static func areSound(_ blocks: [Block]) -> Bool {
    guard (1...VaultLimits.blocksMax).contains(blocks.count),
      Set(blocks.map(\.name)).count == blocks.count
    else { return false }
    var total: UInt64 = 0
    for block in blocks {
      guard (1...VaultLimits.blockNameMax).contains(block.name.utf8.count),
        block.pages <= VaultLimits.pagesMax - total
      else { return false }
      total += block.pages
    }
    return true
  }

  /// Pages of all blocks.
  public var pageCount: UInt64 { blocks.reduce(0) { $0 + $1.pages } }

  /// How long the head is whose first `fixedByteCount` bytes these are.
  public static func byteCount(fixed bytes: RawSpan) throws(DecodeError) -> Int {
    var cursor = ByteCursor(bytes)
    let magic = try cursor.readBE(UInt64.self)
    guard magic == Self.magic else {
      throw DecodeError(.badMagic, in: "snapshot", at: 0, found: magic, limit: Self.magic)
    }
    let count = Int(try cursor.readBE(UInt32.self))
    guard (fixedByteCount + 8...byteCountMax).contains(count) else {
      throw DecodeError(
        .overLimit, in: "head of a snapshot", at: 8, found: UInt64(count),
        limit: UInt64(byteCountMax))
    }
    return count
  }

  /// Decodes a whole head; nothing may follow it.
  public init(decoding bytes: RawSpan) throws(DecodeError) {
    let count = try Self.byteCount(fixed: bytes)
    guard bytes.byteCount == count else {
      throw DecodeError(
        .truncated, in: "head of a snapshot", at: 0, found: UInt64(bytes.byteCount),
        limit: UInt64(count))
    }
    var tail = ByteCursor(bytes.extracting(count - 8..<count))
    let checksum = try tail.readBE(UInt64.self)
    let expected = FrameChecksum.of(bytes.extracting(..<(count - 8)))
    guard checksum == expected else {
      throw DecodeError(
        .badChecksum, in: "head of a snapshot", at: UInt64(count - 8), found: checksum,
        limit: expected)
    }
    var cursor = ByteCursor(bytes.extracting(12..<count - 8))
    let reserved = try cursor.readBE(UInt32.self)
    let id = VaultID(high: try cursor.readBE(), low: try cursor.readBE())
    let takenAt: Int64 = try cursor.readBE()
    let seed: UInt64 = try cursor.readBE()
    let guest = try Self.text(&cursor)
    let uuid = try Self.text(&cursor)
    let blockCount = Int(try cursor.readBE(UInt16.self))
    guard reserved == 0, blockCount <= VaultLimits.blocksMax else {
      throw DecodeError(
        .overLimit, in: "blocks of a snapshot", at: UInt64(cursor.position),
        found: UInt64(blockCount), limit: UInt64(VaultLimits.blocksMax))
    }
    var blocks: [Block] = []
    for _ in 0..<blockCount {
      let name = try Self.text(&cursor)
      blocks.append(Block(name: name, pages: try cursor.readBE()))
    }
    guard cursor.remaining == 0,
      let head = VaultHead(
        id: id, takenAt: takenAt, seed: seed, guest: guest, uuid: uuid, blocks: blocks)
    else {
      throw DecodeError(.badValue, in: "head of a snapshot", at: UInt64(cursor.position))
    }
    self = head
  }

  private static func text(_ cursor: inout ByteCursor) throws(DecodeError) -> String {
    let count = Int(try cursor.readBE(UInt16.self))
    return try cursor.readString(count)
  }

  /// Appends the whole head, its length and checksum included.
  public func encode(into out: inout [UInt8]) {
    var body: [UInt8] = []
    body.appendBE(UInt32(0))
    body.appendBE(id.high)
    body.appendBE(id.low)
    body.appendBE(takenAt)
    body.appendBE(seed)
    Self.append(guest, to: &body)
    Self.append(uuid, to: &body)
    body.appendBE(UInt16(truncatingIfNeeded: blocks.count))  // <= blocksMax
    for block in blocks {
      Self.append(block.name, to: &body)
      body.appendBE(block.pages)
    }
    let start = out.count
    out.appendBE(Self.magic)
    out.appendBE(UInt32(truncatingIfNeeded: 12 + body.count + 8))  // <= byteCountMax
    out += body
    let checksum = unsafe FrameChecksum.of(out.span.bytes.extracting(start...))
    out.appendBE(checksum)
  }

  private static func append(_ text: String, to out: inout [UInt8]) {
    out.appendBE(UInt16(truncatingIfNeeded: text.utf8.count))  // within the limits
    out += text.utf8
  }
}

/// Names a snapshot: 128 bits drawn by lot, 32 hexadecimal digits as text.
public struct VaultID: Sendable, Hashable, CustomStringConvertible {
  public let high, low: UInt64

  public init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

  /// Both halves from `random`.
  public init(using random: inout some RandomNumberGenerator) {
    self.init(high: random.next(), low: random.next())
  }

  /// Reads the 32 hexadecimal digits that `description` prints, in either case.
  public init?(_ text: String) {
    guard text.utf8.count == 32, text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") }),
      let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.init(high: high, low: low)
  }

  public var description: String {
    [high, low].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
