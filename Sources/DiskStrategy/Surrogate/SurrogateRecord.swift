import Base

/// What stands before a record's data in a surrogate's log: which blocks of the disk they are, and how new.
///
/// ```
/// 0   magic u64        8   log u64          16  sequence u64     24  kind u64
/// 32  first block u64  40  blocks u64       48  checksum of the data u64
/// 56  checksum of all that u64, little endian all of it; zeros up to 4096
/// ```
///
/// The data follow, 4096 bytes for each block. A header is believed when it has the log's own number, which is
/// drawn by chance: so no guest can write one.
public struct SurrogateRecord: Sendable, Hashable {
  /// What the record says of its blocks.
  public enum Kind: UInt64, Sendable {
    /// The newest content of the blocks.
    case data = 1
    /// The blocks are zeros; no data follow.
    case zeros = 2
    /// A copy of what the original has, too.
    case copy = 3
  }

  private static let magic: UInt64 = 0x3143_4552_5352_5553  // SURSREC1
  /// Bytes of a header, with its zeros: a block.
  public static let headerByteCount = DiskGeometry.blockByteCount
  /// Bytes of it that say something.
  public static let usedByteCount = 64
  /// Blocks of a record with data: 1 MiB.
  public static let blocksMax = 256
  /// Blocks of a record of zeros: 64 MiB.
  public static let zeroBlocksMax = 16_384

  public let log, sequence: UInt64
  public let kind: Kind
  public let blocks: Range<Int>
  public let dataSum: UInt64

  public init(log: UInt64, sequence: UInt64, kind: Kind, blocks: Range<Int>, dataSum: UInt64) {
    (self.log, self.sequence, self.kind) = (log, sequence, kind)
    (self.blocks, self.dataSum) = (blocks, dataSum)
  }

  /// Blocks that a record of these takes in the log.
  public static func unitCount(_ kind: Kind, _ blocks: Range<Int>) -> Int {
    kind == .zeros ? 1 : 1 + blocks.count
  }
  /// Blocks that it takes in the log, its header included.
  public var unitCount: Int { Self.unitCount(kind, blocks) }

  /// The header's first `usedByteCount` bytes.
  public var encoded: [UInt8] {
    let words = [
      Self.magic, log, sequence, kind.rawValue, UInt64(blocks.lowerBound), UInt64(blocks.count),
      dataSum,
    ]
    return (words + [Self.checksum(words)]).flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) }
    }
  }

  /// nil: no header of this log for a disk of so many blocks.
  public init?(_ bytes: RawSpan, log: UInt64, blockCount: Int) {
    guard bytes.byteCount >= Self.usedByteCount else { return nil }
    var cursor = ByteCursor(bytes)
    var words: [UInt64] = []
    for _ in 0..<8 {
      guard let word = try? cursor.readBE(UInt64.self) else { return nil }
      words.append(word.byteSwapped)
    }
    guard words[0] == Self.magic, words[1] == log, words[7] == Self.checksum(Array(words[..<7])),
      let kind = Kind(rawValue: words[3]), words[5] >= 1,
      words[5] <= UInt64(kind == .zeros ? Self.zeroBlocksMax : Self.blocksMax),
      words[4] < UInt64(blockCount), words[5] <= UInt64(blockCount) - words[4]
    else { return nil }
    self.init(
      log: log, sequence: words[2], kind: kind,
      blocks: Int(words[4])..<Int(words[4] + words[5]), dataSum: words[6])
  }

  /// FNV-1a over the words' bytes: against torn headers, not against anybody.
  public static func checksum(_ words: [UInt64]) -> UInt64 {
    var sum: UInt64 = 0xCBF2_9CE4_8422_2325
    for value in words {
      for shift in stride(from: UInt64(0), to: 64, by: 8) {
        sum = (sum ^ (value >> shift & 0xFF)) &* 0x100_0000_01B3
      }
    }
    return sum
  }
}
