/// A transfer rate in bytes per second. Never zero: a stalled link is a missing rate.
public struct ByteRate: Sendable, Hashable, Comparable {
  public let bytesPerSecond: UInt64

  /// nil for 0.
  public init?(bytesPerSecond: UInt64) {
    guard bytesPerSecond > 0 else { return nil }
    self.bytesPerSecond = bytesPerSecond
  }

  public static func < (a: Self, b: Self) -> Bool { a.bytesPerSecond < b.bytesPerSecond }

  /// Reads link rates (`1Gbit`, `200Mbit`, bits) and byte rates (`100MiB/s`, `40MB/s`).
  public init?(parsing text: String) {
    if text.hasSuffix("/s") {
      guard let size = ByteCount(parsing: String(text.dropLast(2))) else { return nil }
      self.init(bytesPerSecond: size.bytes)
      return
    }
    let factors: [(String, UInt64)] = [
      ("Tbit", 1_000_000_000_000), ("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1000),
      ("Kbit", 1000), ("bit", 1),
    ]
    guard let bits = DecimalNumber(parsing: text, units: factors) else { return nil }
    self.init(bytesPerSecond: bits.scaled / 8)
  }

  /// Milliseconds that `size` needs at this rate, rounded up; saturates.
  public func milliseconds(for size: ByteCount) -> UInt64 {
    let (scaled, overflow) = size.bytes.multipliedReportingOverflow(by: 1000)
    return overflow ? .max : scaled / bytesPerSecond + (scaled % bytesPerSecond == 0 ? 0 : 1)
  }
}

extension ByteRate: CustomStringConvertible {
  /// Decimal units, as links are sold: `105 MB/s`.
  public var description: String {
    DecimalNumber.format(
      bytesPerSecond,
      units: [
        (1_000_000_000_000, "TB/s"), (1_000_000_000, "GB/s"), (1_000_000, "MB/s"), (1000, "kB/s"),
      ],
      base: "B/s")
  }
}
