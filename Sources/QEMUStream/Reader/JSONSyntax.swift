/// Checks one JSON object, byte by byte, without building anything (RFC 8259, except that bytes
/// from 0x80 on in strings are not checked to be UTF-8). At most 64 levels deep.
struct JSONSyntax: Sendable {
  private enum State: Sendable {
    case value, firstValueOrEnd, firstKeyOrEnd, key, colon, commaOrEnd, done
    case string, escape, unicode(left: Int)
    case literal(rest: StaticString, at: Int)
    case minus, zero, integer, point, fraction, exponent, exponentSign, exponentDigits
  }

  static let depthMax = 64
  private static let wantedKey: StaticString = "devices"

  private var state = State.value
  private var depth = 0
  /// One bit per level, the innermost lowest: 1 for an object.
  private var objects: UInt64 = 0
  private var stringIsKey = false
  /// Bytes of `wantedKey` matched by the current string; nil once it differs.
  private var matched: Int?
  /// Whether the outermost object has a key `devices`.
  private(set) var hasDevices = false

  /// Whether the object is closed.
  var isComplete: Bool { if case .done = state { true } else { false } }

  /// Takes the next byte; false when no JSON object goes on with it.
  mutating func feed(_ byte: UInt8) -> Bool {
    switch state {
    case .string, .escape, .unicode: return feedString(byte)
    case .literal(let rest, let at):
      // SAFETY: `at` is below the literal's length, by the line below.
      guard unsafe rest.utf8Start[at] == byte else { return false }
      state = at + 1 < rest.utf8CodeUnitCount ? .literal(rest: rest, at: at + 1) : .commaOrEnd
      return true
    case .minus, .zero, .integer, .point, .fraction, .exponent, .exponentSign, .exponentDigits:
      if let taken = feedNumber(byte) { return taken }
    case .value, .firstValueOrEnd, .firstKeyOrEnd, .key, .colon, .commaOrEnd, .done: break
    }
    if byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      return depth > 0 || isComplete
    }
    return feedStructure(byte)
  }

  private mutating func feedStructure(_ byte: UInt8) -> Bool {
    switch (state, byte) {
    case (.value, _): return beginValue(byte)
    case (.firstValueOrEnd, UInt8(ascii: "]")): return close(object: false)
    case (.firstValueOrEnd, _): return beginValue(byte)
    case (.firstKeyOrEnd, UInt8(ascii: "}")): return close(object: true)
    case (.firstKeyOrEnd, UInt8(ascii: "\"")), (.key, UInt8(ascii: "\"")):
      (state, stringIsKey, matched) = (.string, true, depth == 1 ? 0 : nil)
    case (.colon, UInt8(ascii: ":")): state = .value
    case (.commaOrEnd, UInt8(ascii: ",")): state = objects & 1 == 1 ? .key : .value
    case (.commaOrEnd, UInt8(ascii: "}")): return close(object: true)
    case (.commaOrEnd, UInt8(ascii: "]")): return close(object: false)
    default: return false
    }
    return true
  }

  private mutating func beginValue(_ byte: UInt8) -> Bool {
    // Nothing but an object may stand outside.
    guard depth > 0 || byte == UInt8(ascii: "{") else { return false }
    switch byte {
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      guard depth < Self.depthMax else { return false }
      let isObject = byte == UInt8(ascii: "{")
      depth += 1
      objects = objects << 1 | (isObject ? 1 : 0)
      state = isObject ? .firstKeyOrEnd : .firstValueOrEnd
    case UInt8(ascii: "\""): (state, stringIsKey, matched) = (.string, false, nil)
    case UInt8(ascii: "t"): state = .literal(rest: "rue", at: 0)
    case UInt8(ascii: "f"): state = .literal(rest: "alse", at: 0)
    case UInt8(ascii: "n"): state = .literal(rest: "ull", at: 0)
    case UInt8(ascii: "-"): state = .minus
    case UInt8(ascii: "0"): state = .zero
    case UInt8(ascii: "1")...UInt8(ascii: "9"): state = .integer
    default: return false
    }
    return true
  }

  private mutating func close(object: Bool) -> Bool {
    guard depth > 0, (objects & 1 == 1) == object else { return false }
    depth -= 1
    objects >>= 1
    state = depth == 0 ? .done : .commaOrEnd
    return true
  }

  private mutating func feedString(_ byte: UInt8) -> Bool {
    switch state {
    case .escape:
      matched = nil
      switch byte {
      case UInt8(ascii: "u"): state = .unicode(left: 4)
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
        UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
        state = .string
      default: return false
      }
    case .unicode(let left):
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
        UInt8(ascii: "A")...UInt8(ascii: "F"):
        state = left > 1 ? .unicode(left: left - 1) : .string
      default: return false
      }
    default:
      guard byte >= 0x20 else { return false }
      if byte == UInt8(ascii: "\\") {
        state = .escape
      } else if byte == UInt8(ascii: "\"") {
        if matched == Self.wantedKey.utf8CodeUnitCount { hasDevices = true }
        state = stringIsKey ? .colon : .commaOrEnd
      } else if let count = matched {
        // SAFETY: count is below the key's length by the first condition.
        let same =
          unsafe count < Self.wantedKey.utf8CodeUnitCount && Self.wantedKey.utf8Start[count] == byte
        matched = same ? count + 1 : nil
      }
    }
    return true
  }

  /// Nil when the number ended before `byte`.
  private mutating func feedNumber(_ byte: UInt8) -> Bool? {
    let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    let isExponent = byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E")
    switch state {
    case .minus where byte == UInt8(ascii: "0"): state = .zero
    case .minus where isDigit, .integer where isDigit: state = .integer
    case .zero where byte == UInt8(ascii: "."), .integer where byte == UInt8(ascii: "."):
      state = .point
    case .zero where isExponent, .integer where isExponent, .fraction where isExponent:
      state = .exponent
    case .point where isDigit, .fraction where isDigit: state = .fraction
    case .exponent where byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-"):
      state = .exponentSign
    case .exponent where isDigit, .exponentSign where isDigit, .exponentDigits where isDigit:
      state = .exponentDigits
    case .zero, .integer, .fraction, .exponentDigits:
      state = .commaOrEnd
      return nil
    default: return false
    }
    return true
  }
}
