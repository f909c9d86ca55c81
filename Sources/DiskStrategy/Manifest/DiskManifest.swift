public import Base

/// What a disk held when its snapshot was taken: a SHA-256 for each 64 KiB. Pure; hashes are made elsewhere.
///
/// ```
/// 0   magic u64     8  bytes of the disk u64    16  generation u64
/// 24  bytes of a part u32    28  bytes of a hash u32
/// 32  hashes, 32 bytes each; then a checksum of all that u64; big endian
/// ```
public struct DiskManifest: Sendable, Equatable {
  /// Bytes that a hash is of; the disk's last part may be shorter.
  public static let partByteCount: UInt64 = 65_536
  public static let hashByteCount = 32
  /// Largest disk that has one: 2 TiB, whose manifest takes 1 GiB.
  public static let diskByteCountMax: UInt64 = 1 << 41
  private static let magic: UInt64 = 0x4744_5754_4D41_4E31  // GDWTMAN1
  private static let headerByteCount = 32

  public let byteCount: UInt64
  /// Of the server's notes of what has changed since.
  public let generation: UInt64
  private let hashes: [UInt8]

  /// nil: not as many hashes as the disk has parts, or too large.
  public init?(byteCount: UInt64, generation: UInt64, hashes: [UInt8]) {
    guard (1...Self.diskByteCountMax).contains(byteCount),
      hashes.count == Self.partCount(byteCount) * Self.hashByteCount
    else { return nil }
    (self.byteCount, self.generation, self.hashes) = (byteCount, generation, hashes)
  }

  private static func partCount(_ byteCount: UInt64) -> Int {
    Int((byteCount + partByteCount - 1) / partByteCount)
  }

  /// Of 64 KiB; the last may be shorter.
  public var partCount: Int { hashes.count / Self.hashByteCount }

  /// 32 bytes of SHA-256.
  ///
  /// - Precondition: `part` is in `0..<partCount`.
  public func hash(of part: Int) -> ArraySlice<UInt8> {
    hashes[(part * Self.hashByteCount)..<((part + 1) * Self.hashByteCount)]
  }

  /// The bytes of a part.
  public func range(of part: Int) -> Range<UInt64> {
    let start = UInt64(part) * Self.partByteCount
    return start..<min(start + Self.partByteCount, byteCount)
  }

  /// The layout above, checksum included; up to 1 GiB.
  public var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.headerByteCount + hashes.count + 8)
    for word in [Self.magic, byteCount, generation] { bytes.appendBE(word) }
    bytes.appendBE(UInt32(Self.partByteCount))
    bytes.appendBE(UInt32(Self.hashByteCount))
    bytes += hashes
    bytes.appendBE(Self.checksum(bytes))
    return bytes
  }

  /// Throws on another magic or size of parts, a disk that is empty or over `diskByteCountMax`, a
  /// length that isn't what the disk's size says, and a checksum that doesn't fit.
  public init(decoding bytes: [UInt8]) throws(DecodeError) {
    guard bytes.count >= Self.headerByteCount + 8 else {
      throw DecodeError(
        .truncated, in: "manifest", at: 0, found: UInt64(bytes.count),
        limit: UInt64(Self.headerByteCount + 8))
    }
    guard Self.word(bytes, 0) == Self.magic else {
      throw DecodeError(.badMagic, in: "manifest", at: 0)
    }
    let (byteCount, generation) = (Self.word(bytes, 8), Self.word(bytes, 16))
    guard (1...Self.diskByteCountMax).contains(byteCount) else {
      throw DecodeError(
        .overLimit, in: "manifest", at: 8, found: byteCount, limit: Self.diskByteCountMax)
    }
    let sizes = Self.partByteCount << 32 | UInt64(Self.hashByteCount)
    guard Self.word(bytes, 24) == sizes else {
      throw DecodeError(.badVersion, in: "manifest", at: 24, found: Self.word(bytes, 24))
    }
    let end = Self.headerByteCount + Self.partCount(byteCount) * Self.hashByteCount
    guard bytes.count == end + 8 else {
      throw DecodeError(
        .truncated, in: "manifest", at: UInt64(bytes.count), found: UInt64(bytes.count),
        limit: UInt64(end + 8))
    }
    guard Self.checksum(Array(bytes[..<end])) == Self.word(bytes, end) else {
      throw DecodeError(.badChecksum, in: "manifest", at: UInt64(end))
    }
    (self.byteCount, self.generation) = (byteCount, generation)
    hashes = Array(bytes[Self.headerByteCount..<end])
  }

  private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
    bytes[offset..<(offset + 8)].reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// FNV-1a over words of eight bytes: against accidents. What is taken on the word of a hash is compared with it.
  public static func checksum(_ bytes: [UInt8]) -> UInt64 {
    var sum: UInt64 = 0xCBF2_9CE4_8422_2325
    var offset = 0
    while offset + 8 <= bytes.count {
      sum = (sum ^ word(bytes, offset)) &* 0x100_0000_01B3
      sum ^= sum >> 29
      offset += 8
    }
    return sum
  }
}
