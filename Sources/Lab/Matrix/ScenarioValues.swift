import Agent
import Base

/// A rate, or as fast as it goes.
public struct RateOrMax: Sendable {
  /// nil: no limit.
  public let mebibytesPerSecond: UInt64?

  /// From `max` (or `unlimited`), `0`, or a rate.
  public init?(_ text: String) {
    if text == "max" || text == "unlimited" {
      mebibytesPerSecond = nil
    } else if text == "0" {
      mebibytesPerSecond = 0
    } else {
      guard let rate = ByteRate(parsing: text) else { return nil }
      mebibytesPerSecond = max(rate.bytesPerSecond >> 20, 1)
    }
  }
}

extension KeyedDecodingContainer {
  func size(_ key: K) throws -> UInt64? {
    try parsed(key, "a size like 256MiB") { $0 == "0" ? 0 : ByteCount(parsing: $0)?.bytes }
  }

  func number(_ key: K, _ range: ClosedRange<Int>) throws -> Int? {
    guard let value = try decodeIfPresent(Int.self, forKey: key) else { return nil }
    guard range.contains(value) else {
      throw DecodingError.dataCorruptedError(
        forKey: key, in: self, debugDescription: "\(value) is not in \(range)")
    }
    return value
  }

  func rateOrMax(_ key: K) throws -> RateOrMax? {
    try parsed(key, "a rate like 100MiB/s, or max", RateOrMax.init)
  }
}
