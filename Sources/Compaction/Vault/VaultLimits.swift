/// What bounds a snapshot file, so that memory can be reserved before it is read.
public enum VaultLimits {
  /// Pages of a full segment: every segment of a file but the last.
  public static let segmentPages = 256
  /// RAM blocks; a stream names no more.
  public static let blocksMax = 1024
  /// Bytes of a RAM block's name, as in QEMU's stream.
  public static let blockNameMax = 255
  /// Bytes of a guest's name, and of its UUID.
  public static let guestNameMax = 1024
  /// Pages of all blocks together: 64 TiB, a stream's limit.
  public static let pagesMax: UInt64 = 1 << 34
}

/// A page of a snapshot by one number that rises with block and page: the block in the upper 16 bits.
public struct VaultKey: RawRepresentable, Sendable, Hashable, Comparable {
  public let rawValue: UInt64

  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// - Parameter page: in pages from the start of the block, below 2^48.
  public init(block: Int, page: UInt64) {
    precondition((0..<VaultLimits.blocksMax).contains(block) && page < 1 << 48)
    rawValue = UInt64(block) << 48 | page
  }

  /// Index into the snapshot's blocks.
  public var block: Int { Int(rawValue >> 48) }
  public var page: UInt64 { rawValue & (1 << 48 - 1) }

  /// By block, then by page: the order in which a snapshot stores pages.
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}
