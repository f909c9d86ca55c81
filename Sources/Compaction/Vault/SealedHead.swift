public import Base
import Wire

/// The start of a snapshot's file that is sealed with the host's key. Behind it come chunks: 4096 bytes of the snapshot
/// each, the last one fewer but not none, sealed, with a tag of 16 bytes.
///
/// Layout, big-endian: magic u64 `GWVAULTS`, bytes of a chunk u32 (4096), reserved u32 (0), salt 16 bytes, checksum u64
/// (`FrameChecksum`) of everything before it.
public struct SealedHead: Sendable, Hashable {
  public static let byteCount = 40
  /// `GWVAULTS`.
  static let magic: UInt64 = 0x4757_5641_554C_5453
  public static let saltByteCount = 16
  public static let chunkBytes = 4096
  public static let tagByteCount = 16
  static let storedChunkBytes = chunkBytes + tagByteCount

  /// Of the file's own key, drawn by lot.
  public let salt: [UInt8]

  /// - Precondition: `salt` has `saltByteCount` bytes.
  public init(salt: [UInt8]) {
    precondition(salt.count == Self.saltByteCount)
    self.salt = salt
  }

  /// Whether a file that begins with these bytes is a sealed one.
  public static func begins(_ bytes: RawSpan) -> Bool {
    var cursor = ByteCursor(bytes)
    return (try? cursor.readBE(UInt64.self)) == magic
  }

  /// Reads `byteCount` bytes. Throws on another magic, another size of chunks, a reserved field
  /// that isn't zero, and a checksum that doesn't fit.
  public init(decoding bytes: RawSpan) throws(DecodeError) {
    var cursor = ByteCursor(bytes)
    let fixed = try cursor.take(Self.byteCount - 8)
    let checksum = try cursor.readBE(UInt64.self)
    var fields = ByteCursor(fixed)
    let magic = try fields.readBE(UInt64.self)
    guard magic == Self.magic else {
      throw DecodeError(.badMagic, in: "sealed snapshot", at: 0, found: magic, limit: Self.magic)
    }
    let expected = FrameChecksum.of(fixed)
    guard checksum == expected else {
      throw DecodeError(
        .badChecksum, in: "sealed snapshot", at: 0, found: checksum, limit: expected)
    }
    let chunk = try fields.readBE(UInt32.self)
    let reserved = try fields.readBE(UInt32.self)
    guard chunk == UInt32(Self.chunkBytes), reserved == 0 else {
      throw DecodeError(
        .badValue, in: "chunks of a sealed snapshot", at: 8, found: UInt64(chunk),
        limit: UInt64(Self.chunkBytes))
    }
    var salt: [UInt8] = []
    salt.append(contentsOf: try fields.take(Self.saltByteCount))
    self.salt = salt
  }

  public func encode(into out: inout [UInt8]) {
    let start = out.count
    out.appendBE(Self.magic)
    out.appendBE(UInt32(Self.chunkBytes))
    out.appendBE(UInt32(0))
    out += salt
    let checksum = unsafe FrameChecksum.of(out.span.bytes.extracting(start...))
    out.appendBE(checksum)
  }
}

/// Which bytes of a sealed file hold which of the snapshot.
public struct SealedLayout: Sendable, Hashable {
  /// Of the snapshot.
  public let byteCount: UInt64
  public let chunkCount: UInt64

  /// Nil for a file whose size no sealed snapshot has.
  public init?(fileByteCount: UInt64) {
    guard fileByteCount > UInt64(SealedHead.byteCount) else { return nil }
    let stored = fileByteCount - UInt64(SealedHead.byteCount)
    let whole = UInt64(SealedHead.storedChunkBytes)
    chunkCount = stored / whole + (stored % whole > 0 ? 1 : 0)
    let last = stored - (chunkCount - 1) * whole
    guard last > UInt64(SealedHead.tagByteCount) else { return nil }
    byteCount = stored - chunkCount * UInt64(SealedHead.tagByteCount)
  }

  /// How large a sealed file is whose snapshot has so many bytes, at least 1.
  public static func fileByteCount(_ byteCount: UInt64) -> UInt64 {
    let chunks = (byteCount - 1) / UInt64(SealedHead.chunkBytes) + 1
    return UInt64(SealedHead.byteCount) + byteCount + chunks * UInt64(SealedHead.tagByteCount)
  }

  /// The chunks that bytes of the snapshot are in; of a range that is not empty and within it.
  public func chunks(of bytes: Range<UInt64>) -> ClosedRange<UInt64> {
    bytes.lowerBound / UInt64(SealedHead.chunkBytes)...(bytes.upperBound - 1)
      / UInt64(SealedHead.chunkBytes)
  }

  /// Where a chunk is in the file, its tag included.
  public func stored(_ chunk: UInt64) -> Range<UInt64> {
    let start = UInt64(SealedHead.byteCount) + chunk * UInt64(SealedHead.storedChunkBytes)
    let end =
      UInt64(SealedHead.byteCount) + byteCount + chunkCount * UInt64(SealedHead.tagByteCount)
    return start..<min(start + UInt64(SealedHead.storedChunkBytes), end)
  }
}
