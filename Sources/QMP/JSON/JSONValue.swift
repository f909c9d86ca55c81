/// A JSON document as QMP sends it. Numbers keep their text, so that what is read can be written
/// back exactly (migration parameters are restored that way) and nothing passes through `Double`.
public enum JSONValue: Sendable, Hashable {
  case null
  case bool(Bool)
  /// The number's literal, as RFC 8259 allows it.
  case number(String)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])
}

extension JSONValue {
  /// The member `name` of an object; nil for anything else.
  public subscript(name: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members[name]
  }

  public var bool: Bool? {
    guard case .bool(let value) = self else { return nil }
    return value
  }
  public var string: String? {
    guard case .string(let value) = self else { return nil }
    return value
  }
  public var array: [JSONValue]? {
    guard case .array(let value) = self else { return nil }
    return value
  }
  public var object: [String: JSONValue]? {
    guard case .object(let value) = self else { return nil }
    return value
  }
  /// A whole number in `0...UInt64.max`.
  public var uint64: UInt64? {
    guard case .number(let literal) = self else { return nil }
    return UInt64(literal)
  }
  /// A whole number in `Int64`'s range; nil for fractions and exponents, even where their value is
  /// whole.
  public var int64: Int64? {
    guard case .number(let literal) = self else { return nil }
    return Int64(literal)
  }
  /// As `int64`.
  public var int: Int? { int64.flatMap { Int(exactly: $0) } }

  /// A non-negative decimal times `factor`, truncated; nil when it does not fit. QMP has a few
  /// fractions (`mbps`), all of them for people.
  public func scaled(by factor: UInt64) -> UInt64? {
    guard case .number(let literal) = self else { return nil }
    let parts = literal.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count <= 2, let whole = UInt64(parts[0]) else { return nil }
    let (base, overflow) = whole.multipliedReportingOverflow(by: factor)
    guard !overflow else { return nil }
    guard parts.count == 2 else { return base }
    // Six digits are plenty; the rest would only bring overflow.
    let digits = parts[1].prefix(6)
    guard parts[1].allSatisfy({ $0.isASCII && $0.isNumber }), let fraction = UInt64(digits) else {
      return nil
    }
    var divisor: UInt64 = 1
    for _ in digits { divisor *= 10 }
    let (part, tooLarge) = fraction.multipliedReportingOverflow(by: factor)
    guard !tooLarge else { return nil }
    let (total, last) = base.addingReportingOverflow(part / divisor)
    return last ? nil : total
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int64) { self = .number(String(value)) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  /// Of equal names the last one counts.
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements) { _, last in last })
  }
  public init(_ value: some FixedWidthInteger) { self = .number(String(value)) }
}
