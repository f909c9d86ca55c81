public import Base

/// Why a qcow2 image cannot be indexed.
public enum Qcow2Refusal: Error, Sendable, Hashable, CustomStringConvertible {
  /// Bytes that no qcow2 image has there.
  case broken(DecodeError)
  case encrypted
  /// Its data are in another file.
  case externalData
  /// Each cluster is divided further (`extended_l2`).
  case subclusters
  /// QEMU marked it as damaged.
  case corrupt
  /// A feature that came after this was written.
  case unknownFeature(bits: UInt64)
  /// Clusters of less than 4096 bytes.
  case smallClusters(byteCount: Int)

  public var description: String {
    switch self {
    case .broken(let error): "not a sound qcow2 image: \(error)"
    case .encrypted: "encrypted qcow2 images are left out"
    case .externalData: "qcow2 images with an external data file are left out"
    case .subclusters: "qcow2 images with subclusters (extended_l2) are left out"
    case .corrupt: "the image is marked as corrupt; see qemu-img check"
    case .unknownFeature(let bits):
      "the image needs a feature that is not known (bits 0x\(String(bits, radix: 16)))"
    case .smallClusters(let byteCount):
      "clusters of \(byteCount) bytes; at least 4096 are needed"
    }
  }
}

/// The start of a qcow2 image, as far as it says where the guest's data are; from the published description of the
/// format (QEMU's `docs/interop/qcow2.txt`). Hostile input: a guest's own disk may begin like this.
public struct Qcow2Header: Sendable, Hashable {
  /// `QFI` and 0xFB.
  public static let magic: UInt32 = 0x5146_49FB
  /// Everything it says lies within the first cluster, which is never larger.
  public static let byteCountMax = 2 << 20
  /// 32 MiB, as QEMU allows.
  static let l1EntriesMax = 4 << 20
  static let backingNameMax = 1023
  /// Extensions that are looked at for the one that names the backing file's format.
  static let extensionsMax = 64

  /// Of the image as its guest sees it, in bytes.
  public let imageBytes: UInt64
  /// Of a cluster in bytes: 2 to the power of this, `12...21`.
  public let clusterBits: Int
  public let l1Offset: UInt64
  /// Entries of the first table that the image needs.
  public let l1Count: Int
  /// The image behind this one, as it is named there; nil: none.
  public let backingName: String?
  /// Its format, where that is said: `raw`, `qcow2`.
  public let backingFormat: String?
  /// Entries may say that a cluster is zeros (version 3).
  let hasZeroClusters: Bool

  /// 4096 to 2 MiB.
  public var clusterBytes: Int { 1 << clusterBits }
  /// Entries of a second table.
  var l2Count: Int { clusterBytes / 8 }

  /// - Parameter bytes: the file's first `byteCountMax` bytes, or all of it.
  public init(decoding bytes: RawSpan) throws(Qcow2Refusal) {
    let fields: Fields
    do throws(DecodeError) { fields = try Fields(decoding: bytes) } catch { throw .broken(error) }
    guard fields.encryption == 0 else { throw .encrypted }
    // 0: counts of references may be behind, which reading does not mind; 3: how compressed clusters are
    // compressed, and they are left out.
    let refused: [(bit: UInt64, refusal: Qcow2Refusal)] = [
      (1 << 1, .corrupt), (1 << 2, .externalData), (1 << 4, .subclusters),
    ]
    for (bit, refusal) in refused where fields.incompatible & bit != 0 { throw refusal }
    let unknown = fields.incompatible & ~UInt64(0b11111)
    guard unknown == 0 else { throw .unknownFeature(bits: unknown) }
    guard fields.clusterBits >= 12 else {
      throw .smallClusters(byteCount: 1 << fields.clusterBits)
    }
    imageBytes = fields.imageBytes
    clusterBits = fields.clusterBits
    l1Offset = fields.l1Offset
    hasZeroClusters = fields.version >= 3
    (backingName, backingFormat) = (fields.backingName, fields.backingFormat)
    let covered = UInt64(1) << UInt64(2 * fields.clusterBits - 3)
    let needed = (fields.imageBytes + covered - 1) / covered
    guard needed <= UInt64(min(fields.l1Count, Self.l1EntriesMax)) else {
      throw .broken(
        DecodeError(
          .overLimit, in: "first table of a qcow2 image", at: 36, found: needed,
          limit: UInt64(min(fields.l1Count, Self.l1EntriesMax))))
    }
    l1Count = Int(needed)
  }

  /// What is written there, within the bounds of the format.
  private struct Fields {
    let version: UInt32
    let clusterBits: Int
    let imageBytes: UInt64
    let encryption: UInt32
    let l1Count: Int
    let l1Offset: UInt64
    var incompatible: UInt64 = 0
    var backingName: String?
    var backingFormat: String?

    init(decoding bytes: RawSpan) throws(DecodeError) {
      var cursor = ByteCursor(bytes)
      let magic = try cursor.readBE(UInt32.self)
      guard magic == Qcow2Header.magic else {
        throw DecodeError(
          .badMagic, in: "qcow2 image", at: 0, found: UInt64(magic),
          limit: UInt64(Qcow2Header.magic))
      }
      version = try cursor.readBE()
      guard version == 2 || version == 3 else {
        throw DecodeError(.badVersion, in: "qcow2 image", at: 4, found: UInt64(version), limit: 3)
      }
      let nameOffset = try cursor.readBE(UInt64.self)
      let nameCount = Int(try cursor.readBE(UInt32.self))
      let bits = try cursor.readBE(UInt32.self)
      imageBytes = try cursor.readBE()
      encryption = try cursor.readBE()
      l1Count = Int(try cursor.readBE(UInt32.self))
      l1Offset = try cursor.readBE()
      guard (9...21).contains(bits), imageBytes <= ImageLimits.imageBytesMax,
        l1Offset <= BlockMap.offsetMax, l1Offset % (1 << UInt64(bits)) == 0
      else { throw DecodeError(.badValue, in: "qcow2 image", at: 20, found: UInt64(bits)) }
      clusterBits = Int(bits)
      // Counts of references and internal snapshots: not looked at.
      _ = try cursor.take(24)
      var headerBytes = 72
      if version == 3 {
        incompatible = try cursor.readBE()
        _ = try cursor.take(20)
        headerBytes = Int(try cursor.readBE(UInt32.self))
      }
      guard (version == 2 ? 72 : 104)...(1 << clusterBits) ~= headerBytes else {
        throw DecodeError(
          .badValue, in: "header length of a qcow2 image", at: 100, found: UInt64(headerBytes))
      }
      guard nameOffset > 0 else { return }
      guard nameOffset < UInt64(1 << clusterBits), nameCount > 0,
        nameCount <= Qcow2Header.backingNameMax
      else {
        throw DecodeError(
          .overLimit, in: "backing file of a qcow2 image", at: 8, found: UInt64(nameCount),
          limit: UInt64(Qcow2Header.backingNameMax))
      }
      var name = ByteCursor(bytes)
      _ = try name.take(Int(nameOffset))
      backingName = try name.readString(nameCount)
      backingFormat = try Self.format(bytes, from: headerBytes, upTo: Int(nameOffset))
    }

    /// Of the backing file, out of the extensions between header and name: type u32, length u32, that many bytes,
    /// zeros up to a multiple of 8; type 0 ends them.
    private static func format(
      _ bytes: RawSpan, from start: Int, upTo end: Int
    ) throws(DecodeError) -> String? {
      var cursor = ByteCursor(bytes)
      _ = try cursor.take(start)
      for _ in 0..<Qcow2Header.extensionsMax where cursor.position + 8 <= end {
        let type = try cursor.readBE(UInt32.self)
        let count = Int(try cursor.readBE(UInt32.self))
        if type == 0 { return nil }
        guard type != 0xE279_2ACA else { return try cursor.readString(min(count, 64)) }
        _ = try cursor.take((count + 7) / 8 * 8)
      }
      return nil
    }
  }
}
