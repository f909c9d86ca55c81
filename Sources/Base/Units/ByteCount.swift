/// A size in bytes. Wraps so that bytes, pages and rates cannot be mixed up.
public struct ByteCount: Sendable, Hashable, Comparable {
  public var bytes: UInt64

  public init(_ bytes: UInt64) { self.bytes = bytes }
  /// Units of 2^10 bytes; what is over 64 bits is lost without a word.
  public static func kibibytes(_ count: UInt64) -> Self { Self(count << 10) }
  /// Units of 2^20 bytes; what is over 64 bits is lost without a word.
  public static func mebibytes(_ count: UInt64) -> Self { Self(count << 20) }
  public static func < (a: Self, b: Self) -> Bool { a.bytes < b.bytes }

  /// Reads `512MiB`, `1GiB`, `64KiB`, `100MB`, `4096`; nil when it is none of these or over 2^63.
  public init?(parsing text: String) {
    let factors: [(String, UInt64)] = [
      ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
      ("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000),
      ("KB", 1000), ("B", 1), ("", 1),
    ]
    guard let value = DecimalNumber(parsing: text, units: factors) else { return nil }
    self.init(value.scaled)
  }
}

extension ByteCount: CustomStringConvertible {
  /// Binary units with three digits: `512 MiB`, `1.25 GiB`.
  public var description: String {
    DecimalNumber.format(
      bytes, units: [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
      base: "B")
  }
}
