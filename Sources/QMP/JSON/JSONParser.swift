/// Reads one JSON document (RFC 8259) out of hostile bytes.
///
/// Bounded by `depthMax` and `valueCountMax`; the caller bounds the length.
public struct JSONParser {
  /// Nested arrays and objects. QEMU nests one object per image of a backing chain.
  public static let depthMax = 256
  /// Values in one document. QEMU 10's largest reply (`query-qmp-schema`) has some 20,000.
  public static let valueCountMax = 1 << 20

  /// Why the bytes are refused.
  public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
      case truncated, unexpectedByte, badNumber, badString, tooDeep, tooManyValues, trailingBytes
    }
    public let code: Code
    /// In bytes from the start of the document.
    public let offset: Int
    public var description: String { "bad JSON at byte \(offset): \(code)" }
  }

  private let bytes: [UInt8]
  private var offset = 0
  private var valuesLeft = JSONParser.valueCountMax

  /// Takes all of `bytes`: white space around the document is skipped, anything else behind it
  /// refused. Throws at the first fault and at the bounds above.
  public static func parse(_ bytes: [UInt8]) throws(Failure) -> JSONValue {
    var parser = JSONParser(bytes: bytes)
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.offset == bytes.count else { throw parser.failure(.trailingBytes) }
    return value
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private func failure(_ code: Failure.Code) -> Failure { Failure(code: code, offset: offset) }
  private var peek: UInt8? { offset < bytes.count ? bytes[offset] : nil }

  private mutating func skipSpace() {
    while let byte = peek, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      offset += 1
    }
  }

  private mutating func expect(_ byte: UInt8) throws(Failure) {
    guard let next = peek else { throw failure(.truncated) }
    guard next == byte else { throw failure(.unexpectedByte) }
    offset += 1
  }

  private mutating func value(depth: Int) throws(Failure) -> JSONValue {
    guard depth <= Self.depthMax else { throw failure(.tooDeep) }
    guard valuesLeft > 0 else { throw failure(.tooManyValues) }
    valuesLeft -= 1
    skipSpace()
    guard let byte = peek else { throw failure(.truncated) }
    switch byte {
    case UInt8(ascii: "{"): return .object(try object(depth: depth + 1))
    case UInt8(ascii: "["): return .array(try array(depth: depth + 1))
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
    default: throw failure(.unexpectedByte)
    }
  }

  private mutating func object(depth: Int) throws(Failure) -> [String: JSONValue] {
    offset += 1
    var members: [String: JSONValue] = [:]
    skipSpace()
    if peek == UInt8(ascii: "}") {
      offset += 1
      return members
    }
    while true {
      skipSpace()
      guard peek == UInt8(ascii: "\"") else {
        throw failure(peek == nil ? .truncated : .unexpectedByte)
      }
      let name = try string()
      skipSpace()
      try expect(UInt8(ascii: ":"))
      members[name] = try value(depth: depth)
      skipSpace()
      guard peek == UInt8(ascii: ",") else { break }
      offset += 1
    }
    try expect(UInt8(ascii: "}"))
    return members
  }

  private mutating func array(depth: Int) throws(Failure) -> [JSONValue] {
    offset += 1
    var elements: [JSONValue] = []
    skipSpace()
    if peek == UInt8(ascii: "]") {
      offset += 1
      return elements
    }
    while true {
      elements.append(try value(depth: depth))
      skipSpace()
      guard peek == UInt8(ascii: ",") else { break }
      offset += 1
    }
    try expect(UInt8(ascii: "]"))
    return elements
  }

  private mutating func word(_ text: StaticString, _ result: JSONValue) throws(Failure) -> JSONValue
  {
    for byte in text.description.utf8 { try expect(byte) }
    return result
  }

  private mutating func number() throws(Failure) -> String {
    let start = offset
    if peek == UInt8(ascii: "-") { offset += 1 }
    let first = peek
    let whole = skipDigits()
    guard whole > 0, first != UInt8(ascii: "0") || whole == 1 else { throw failure(.badNumber) }
    if peek == UInt8(ascii: ".") {
      offset += 1
      guard skipDigits() > 0 else { throw failure(.badNumber) }
    }
    if peek == UInt8(ascii: "e") || peek == UInt8(ascii: "E") {
      offset += 1
      if peek == UInt8(ascii: "+") || peek == UInt8(ascii: "-") { offset += 1 }
      guard skipDigits() > 0 else { throw failure(.badNumber) }
    }
    return String(decoding: bytes[start..<offset], as: UTF8.self)
  }

  private mutating func skipDigits() -> Int {
    let start = offset
    while let byte = peek, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { offset += 1 }
    return offset - start
  }

  private mutating func string() throws(Failure) -> String {
    offset += 1
    var text: [UInt8] = []
    while let byte = peek {
      switch byte {
      case UInt8(ascii: "\""):
        offset += 1
        guard let string = String(validating: text, as: UTF8.self) else {
          throw failure(.badString)
        }
        return string
      case UInt8(ascii: "\\"):
        offset += 1
        try escape(into: &text)
      case 0..<0x20: throw failure(.badString)
      default:
        text.append(byte)
        offset += 1
      }
    }
    throw failure(.truncated)
  }

  private mutating func escape(into text: inout [UInt8]) throws(Failure) {
    guard let byte = peek else { throw failure(.truncated) }
    offset += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexCode()
      if (0xD800...0xDBFF).contains(code) {  // the first half of a pair
        try expect(UInt8(ascii: "\\"))
        try expect(UInt8(ascii: "u"))
        let low = try hexCode()
        guard (0xDC00...0xDFFF).contains(low) else { throw failure(.badString) }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw failure(.badString) }
      text.append(contentsOf: String(Character(scalar)).utf8)
    default: throw failure(.badString)
    }
  }

  private mutating func hexCode() throws(Failure) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = peek else { throw failure(.truncated) }
      guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
        throw failure(.badString)
      }
      code = code << 4 | UInt32(digit)
      offset += 1
    }
    return code
  }
}
