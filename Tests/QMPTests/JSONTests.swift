import Base
import QMP
import Testing

@Suite struct JSONTests {
  @Test func readsEveryKindOfValue() throws {
    let document = """
       {"a" : [ 1 , -2.5e+3, true,false,null ], "s":"\\u00e9\\ud83d\\ude00\\n\\/", "e":{}, "l":[]}
      """
    let value = try JSONParser.parse(text(document))
    #expect(
      value == [
        "a": ["1".number, "-2.5e+3".number, true, false, .null], "s": "é😀\n/",
        "e": .object([:]), "l": .array([]),
      ])
  }

  @Test func numbersKeepTheirText() throws {
    let value = try JSONParser.parse(text("[18446744073709551615,-9223372036854775808,1.50,1e999]"))
    let elements = try #require(value.array)
    #expect(elements[0].uint64 == .max)
    #expect(elements[0].int64 == nil)
    #expect(elements[1].int64 == .min)
    #expect(elements[1].uint64 == nil)
    #expect(elements[2].line == "1.50")
    #expect(elements[3].uint64 == nil)
    #expect(try JSONParser.parse(text("99999999999999999999999")).uint64 == nil)
  }

  @Test func scalesFractionsWithoutFloatingPoint() throws {
    #expect(JSONValue.number("1.5951844660194177").scaled(by: 1_000_000) == 1_595_184)
    #expect(JSONValue.number("7").scaled(by: 10) == 70)
    #expect(JSONValue.number("0.000001").scaled(by: 1_000_000) == 1)
    #expect(JSONValue.number("99999999999999999999").scaled(by: 1) == nil)
    #expect(JSONValue.number("18446744073709551615").scaled(by: 2) == nil)
    #expect(JSONValue.number("-1").scaled(by: 2) == nil)
    #expect(JSONValue.number("1e3").scaled(by: 2) == nil)
  }

  @Test(arguments: [
    "", " ", "{", "[", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{1:2}", "tru", "nul",
    "01", "-", "1.", "1e", "+1", ".5", "\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"",
    "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\u{1}\"", "1 2", "{} x", "[}", "NaN", "'a'",
  ])
  func refusesWhatIsNotJSON(document: String) {
    #expect(throws: JSONParser.Failure.self) { try JSONParser.parse(text(document)) }
  }

  @Test func refusesBytesThatAreNotUTF8() {
    #expect(throws: JSONParser.Failure.self) { try JSONParser.parse([0x22, 0xFF, 0xC0, 0x22]) }
  }

  @Test func depthIsBounded() throws {
    let deep = { (count: Int) in
      text(String(repeating: "[", count: count) + String(repeating: "]", count: count))
    }
    _ = try JSONParser.parse(deep(JSONParser.depthMax))
    let failure = #expect(throws: JSONParser.Failure.self) {
      try JSONParser.parse(deep(1_000_000))
    }
    #expect(failure?.code == .tooDeep)
    let objects = #expect(throws: JSONParser.Failure.self) {
      try JSONParser.parse(text(String(repeating: "{\"a\":", count: 100_000)))
    }
    #expect(objects?.code == .tooDeep)
  }

  @Test func countOfValuesIsBounded() {
    let many = text("[" + String(repeating: "0,", count: JSONParser.valueCountMax) + "0]")
    let failure = #expect(throws: JSONParser.Failure.self) { try JSONParser.parse(many) }
    #expect(failure?.code == .tooManyValues)
  }

  @Test func writingAndReadingAgree() throws {
    var random = SplitMix64(seed: 7)
    for round in 0..<200 {
      let value = randomValue(depth: 4, using: &random)
      let line = value.line
      #expect(!line.contains("\n"), "round \(round)")
      #expect(try JSONParser.parse(text(line)) == value, "round \(round)")
    }
  }

  @Test func randomBytesNeverTrap() throws {
    let alphabet = text("{}[]\",:\\u0123456789eE+-.truefalsn \u{e9}")
    for seed in 0..<200 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      for _ in 0..<50 {
        let bytes = (0..<Int.random(in: 0..<64, using: &random)).map { _ in
          Bool.random(using: &random)
            ? alphabet.randomElement(using: &random) ?? 0
            : UInt8.random(in: 0...255, using: &random)
        }
        if let value = try? JSONParser.parse(bytes) {
          #expect(try JSONParser.parse(text(value.line)) == value, "seed \(seed)")
        }
      }
    }
  }

  private func randomValue(depth: Int, using random: inout SplitMix64) -> JSONValue {
    switch Int.random(in: 0..<(depth > 0 ? 6 : 4), using: &random) {
    case 0: return .null
    case 1: return .bool(Bool.random(using: &random))
    case 2: return JSONValue(Int64.random(in: .min ... .max, using: &random))
    case 3:
      let scalars = (0..<Int.random(in: 0..<8, using: &random)).compactMap { _ in
        Unicode.Scalar(UInt32.random(in: 0...0x1_10FF, using: &random))
      }
      return .string(String(String.UnicodeScalarView(scalars)))
    case 4:
      let count = Int.random(in: 0..<4, using: &random)
      return .array((0..<count).map { _ in randomValue(depth: depth - 1, using: &random) })
    default:
      var members: [String: JSONValue] = [:]
      for index in 0..<Int.random(in: 0..<4, using: &random) {
        members["k\(index)\""] = randomValue(depth: depth - 1, using: &random)
      }
      return .object(members)
    }
  }
}

extension String {
  fileprivate var number: JSONValue { .number(self) }
}
