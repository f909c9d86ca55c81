internal import Base

/// One entry of the block list in RAM's START section.
///
/// Invariant of blocks that a `StreamReader` reports: `length` is a multiple of 4096, at most
/// `StreamLimits.ramLength`; names are unique.
public struct RAMBlock: Sendable, Hashable, Codable {
  /// `pc.ram`, or the id of the memory backend; at most 255 bytes of UTF-8.
  public let name: String
  /// Bytes in use.
  public let length: UInt64
  /// Bytes per page of the backing memory; present only with post-copy and huge pages.
  public var pageSize: UInt64?
  /// Guest physical address; present only with `x-ignore-shared`.
  public var address: UInt64?

  public init(name: String, length: UInt64, pageSize: UInt64? = nil, address: UInt64? = nil) {
    (self.name, self.length, self.pageSize, self.address) = (name, length, pageSize, address)
  }

  /// Pages of 4 KiB.
  public var pageCount: Int { Page.count(bytes: length) }
}
