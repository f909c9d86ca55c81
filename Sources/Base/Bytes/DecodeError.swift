/// Why a byte stream was refused. Input is hostile, so every case is expected.
public struct DecodeError: Error, Hashable, Sendable {
  /// What was wrong; it says what `found` and `limit` mean.
  public enum Code: Hashable, Sendable {
    /// Fewer bytes than the field needs.
    case truncated
    case badMagic
    /// A checksum that does not fit the bytes: they were changed on the way.
    case badChecksum
    /// A version this reader does not know.
    case badVersion
    /// A length or count above its named limit.
    case overLimit
    case unaligned
    /// A value outside the set the format allows (type byte, flag, enum).
    case badValue
    /// A name that is not UTF-8 or not known.
    case badName
    /// A well-formed item at a place where the format does not allow it.
    case outOfOrder
  }

  public let code: Code
  /// What was being decoded, for people: "RAM page record".
  public let context: StaticStringKey
  /// Where decoding stopped, in bytes from the start of the stream or buffer.
  public let offset: UInt64
  /// The value met and the bound it broke, in the field's own unit.
  public let found, limit: UInt64

  /// `offset`, `found` and `limit` as in the fields of the same name; `context` is a noun for
  /// people.
  @inline(never)  // cold path
  public init(
    _ code: Code, in context: StaticString = "input", at offset: UInt64, found: UInt64 = 0,
    limit: UInt64 = 0
  ) {
    self.code = code
    self.context = StaticStringKey(context)
    (self.offset, self.found, self.limit) = (offset, found, limit)
  }

  private init(moving error: DecodeError, by base: UInt64) {
    (code, context) = (error.code, error.context)
    (offset, found, limit) = (base &+ error.offset, error.found, error.limit)
  }

  /// The same error with its offset counted from `base` bytes further ahead: from the start of
  /// the stream instead of from the start of an item in it.
  public func moved(by base: UInt64) -> DecodeError { DecodeError(moving: self, by: base) }
}

/// A `StaticString` that can be compared and hashed by content.
public struct StaticStringKey: Hashable, Sendable, CustomStringConvertible {
  private let value: StaticString
  public init(_ value: StaticString) { self.value = value }
  public var description: String { value.description }
  public static func == (a: Self, b: Self) -> Bool { a.description == b.description }
  public func hash(into hasher: inout Hasher) { hasher.combine(description) }
}

extension DecodeError: CustomStringConvertible {
  public var description: String {
    let place = "\(context) at byte \(offset)"
    return switch code {
    case .truncated: "\(place): truncated, \(found) of \(limit) bytes are there"
    case .badMagic: "\(place): wrong magic \(hex(found)), expected \(hex(limit))"
    case .badChecksum: "\(place): checksum \(hex(found)), the bytes have \(hex(limit))"
    case .badVersion: "\(place): version \(found) is not supported (newest known: \(limit))"
    case .overLimit: "\(place): \(found) is over the limit of \(limit)"
    case .unaligned: "\(place): \(hex(found)) is not a multiple of \(limit)"
    case .badValue: "\(place): value \(hex(found)) is not allowed here"
    case .badName: "\(place): the name is not known or not UTF-8"
    case .outOfOrder: "\(place): \(hex(found)) is not allowed at this point of the stream"
    }
  }

  private func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}
