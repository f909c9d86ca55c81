import Base

/// A rate, or as fast as it goes.
struct RateOrMax {
  /// nil: no limit.
  let mebibytesPerSecond: UInt64?

  init?(_ text: String) {
    if text == "max" {
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

  func duration(_ key: K) throws -> UInt64? {
    try parsed(key, "a duration like 30s") { Milliseconds.parse($0) }
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

  /// A text of the file's as a value; nil when the key is not there.
  func parsed<Value>(_ key: K, _ what: String, _ parse: (String) -> Value?) throws -> Value? {
    guard let text = try decodeIfPresent(String.self, forKey: key) else { return nil }
    guard let value = parse(text) else {
      throw DecodingError.dataCorruptedError(
        forKey: key, in: self, debugDescription: "\"\(text)\" is not \(what)")
    }
    return value
  }
}
