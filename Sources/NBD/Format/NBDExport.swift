/// Sizes that requests must keep to, in bytes.
public struct BlockSizes: Hashable, Sendable {
  /// Offsets and lengths are multiples of this, a power of two up to 64 KiB.
  public let minimum: UInt32
  /// What is fast.
  public let preferred: UInt32
  /// Longest data of a read or write.
  public let maximum: UInt32

  /// What the protocol assumes where nothing was said.
  public static let usual = BlockSizes(
    minimum: 1, preferred: 4096, maximum: UInt32(NBDLimits.payloadBytesMax))!

  /// nil when the protocol doesn't allow these.
  public init?(minimum: UInt32, preferred: UInt32, maximum: UInt32) {
    guard minimum.nonzeroBitCount == 1, minimum <= 65536,
      preferred.nonzeroBitCount == 1, preferred >= max(minimum, 512),
      maximum >= preferred, maximum.isMultiple(of: minimum)
    else { return nil }
    (self.minimum, self.preferred, self.maximum) = (minimum, preferred, maximum)
  }
}

/// A disk that a server offers.
public struct NBDExport: Hashable, Sendable {
  public var name: String
  /// For people; may be empty.
  public var description: String
  public var byteCount: UInt64
  public var flags: ExportFlags
  public var blockSizes: BlockSizes
  /// Names of the metadata that can be asked for: `base:allocation`.
  public var contexts: [String]

  /// `hasFlags` is added to the flags, as the protocol demands.
  public init(
    name: String, description: String = "", byteCount: UInt64, flags: ExportFlags,
    blockSizes: BlockSizes = .usual, contexts: [String] = [NBDExtent.allocation]
  ) {
    (self.name, self.description, self.byteCount) = (name, description, byteCount)
    (self.flags, self.blockSizes, self.contexts) = (flags.union(.hasFlags), blockSizes, contexts)
  }
}

/// A stretch of an export with one status.
public struct NBDExtent: Hashable, Sendable {
  /// The context that every server should have.
  public static let allocation = "base:allocation"
  /// In `base:allocation`: no space is allocated.
  public static let hole: UInt64 = 1
  /// In `base:allocation`: reads as zeros.
  public static let zero: UInt64 = 2

  /// The context in which QEMU tells of a dirty bitmap.
  public static func dirtyBitmap(_ name: String) -> String { "qemu:dirty-bitmap:" + name }
  /// There: something was written to it since the bitmap began.
  public static let dirty: UInt64 = 1

  /// In bytes, never 0.
  public var length: UInt64
  /// Meaning as the context has it.
  public var flags: UInt64

  public init(length: UInt64, flags: UInt64) { (self.length, self.flags) = (length, flags) }

  /// Appends, joining what has the same flags.
  public static func append(_ extent: NBDExtent, to extents: inout [NBDExtent]) {
    guard extent.length > 0 else { return }
    if let last = extents.indices.last, extents[last].flags == extent.flags {
      extents[last].length += extent.length
    } else {
      extents.append(extent)
    }
  }
}
