import Base

/// Texts of a file of settings as values; what they are not is said with the key.
extension KeyedDecodingContainer {
  /// In milliseconds; nil when the key is not there.
  package func duration(_ key: K) throws -> UInt64? {
    try parsed(key, "a duration like 30s") { Milliseconds.parse($0) }
  }

  /// Nil when the key is not there.
  ///
  /// - Parameters:
  ///   - what: the value has to be, for the message.
  ///   - parse: nil: the text is none.
  package func parsed<Value>(
    _ key: K, _ what: String, _ parse: (String) -> Value?
  ) throws -> Value? {
    guard let text = try decodeIfPresent(String.self, forKey: key) else { return nil }
    guard let value = parse(text) else {
      throw DecodingError.dataCorruptedError(
        forKey: key, in: self, debugDescription: "\"\(text)\" is not \(what)")
    }
    return value
  }
}
