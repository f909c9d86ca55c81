import Base
import TestSupport
import Testing

@testable import QEMUStream

@Suite struct TailTests {
  private func stream(
    devices: [(name: String, body: [UInt8])], description: String? = SyntheticStream.description
  ) -> SyntheticStream {
    var stream = SyntheticStream()
    stream.ramEnd()
    for (index, device) in devices.enumerated() {
      stream.device(device.name, device.body, id: UInt32(index + 3))
    }
    if let description {
      StreamItemWriter.end(description: description, into: &stream.bytes)
    } else {
      StreamItemWriter.end(into: &stream.bytes)
    }
    return stream
  }

  /// The end must be known with its last byte, without a close, however the bytes come.
  @Test(arguments: [1, 2, 3, 5, 64, 4096]) func endIsSeenAtItsLastByte(size: Int) throws {
    // Bodies full of things that look like the end.
    let fake: [[UInt8]] = [
      [0, 6, 0, 0, 0, 2, 0x7B, 0x7D], [0, 6, 0, 6, 0, 6, 0, 6, 0x7B, 0x22, 0x7B],
      [0, 6, 0xFF, 0xFF, 0xFF, 0xFF, 0x7B], [0, 6, 0, 0, 0, 0, 0x7B],
      [0, 6, 0, 0, 0x7B, 0x7B, 0x7B, 0x7B], Array(#"{"devices": []}"#.utf8), [0x7E, 0, 0, 0, 3, 0],
      [0, 6, 0, 0, 0, 60] + Array(#"{"devices": [1, 2, "#.utf8),
    ]
    let stream = stream(devices: fake.enumerated().map { ("device\($0.offset)", $0.element) })
    var reader = StreamReader()
    var log = EventLog()
    var (from, to) = (0, 0)
    while to < stream.bytes.count {
      #expect(!reader.isComplete, "at \(to) of \(stream.bytes.count)")
      to = min(to + size, stream.bytes.count)
      from += try reader.consume(stream.bytes.span.bytes.extracting(from..<to), &log)
    }
    #expect(reader.isComplete)
    #expect(log.events.last == .ended(SyntheticStream.description.utf8.count))
  }

  /// The last section's id and the description's length can together look like an earlier start.
  @Test func idsAndLengthsThatLookLikeAnEnd() throws {
    var stream = SyntheticStream()
    stream.ramEnd()
    stream.device("timer", [1, 2, 3], id: 6)  // the footer ends with 00 06
    // A length of 0x7B22 behind 00 06 00 00: "00 06 | 00 06 00 00 | 7b" and on.
    let filler = String(repeating: " ", count: 0x7B22 - 15)
    StreamItemWriter.end(description: #"{"devices": []}"# + filler, into: &stream.bytes)
    let events = try stream.events()
    #expect(events.last == .ended(0x7B22))
  }

  @Test func endsWithoutDescriptionOnClose() throws {
    let events = try stream(devices: [("timer", [0x7E]), ("cpu", [])], description: nil).events()
    #expect(events.last == .ended(0))
    // Cut before the last byte it is incomplete, whatever its bytes look like.
    var cut = stream(devices: [("timer", [1, 2, 0x7E]), ("cpu", [0, 0, 0])], description: nil)
    cut.bytes.removeLast()
    #expect(throws: StreamError.self) { try cut.events() }
  }

  @Test func descriptionOverItsLimitIsNoEnd() {
    var limits = StreamLimits()
    limits.descriptionLength = UInt64(SyntheticStream.description.utf8.count) - 1
    #expect(throws: StreamError.self) { try stream(devices: []).events(limits: limits) }
  }

  static let valid = [
    #"{"devices":[]}"#, #"{}"#, " ", #"{"a":[1,-2,3.5,1e9,0,-0.1E-2,true,false,null,"\u00e4\n"]}"#,
    #"{"a":{"b":[{"c":[[]]}]},"devices":0}"#, "{ \"a\" : 1 }\n",
  ]
  static let invalid = [
    "[]", "1", "{", "}", #"{"a"}"#, #"{"a":}"#, #"{"a":1,}"#, #"{,"a":1}"#, #"{"a":[1,]}"#,
    #"{"a":01}"#,
    #"{"a":-}"#, #"{"a":1.}"#, #"{"a":1e}"#, #"{"a":.5}"#, #"{"a":tru}"#, #"{"a":nul1}"#,
    #"{"a":"\x"}"#,
    #"{"a":"\u12g4"}"#, "{\"a\":\"\u{1}\"}", #"{"a":1]"#, #"{"a":[1}"#, #"{"a":1}}"#, #"{"a":1}{"#,
    #"{a:1}"#, #"{"a":1 2}"#, #"{"a" 1}"#, #"{"a":1"b":2}"#,
    #"{"a":"# + String(repeating: "[", count: 64) + String(repeating: "]", count: 64) + "}",
  ]

  private func isObject(_ text: String) -> (complete: Bool, devices: Bool) {
    var json = JSONSyntax()
    for byte in text.utf8 { guard json.feed(byte) else { return (false, false) } }
    return (json.isComplete, json.hasDevices)
  }

  @Test func grammar() {
    for text in Self.valid where text != " " { #expect(isObject(text).complete, "\(text)") }
    for text in Self.invalid { #expect(!isObject(text).complete, "\(text)") }
    #expect(isObject(#"{"devices":[]}"#).devices)
    #expect(isObject(#"{"a":{"b":[{"c":[[]]}]},"devices":0}"#).devices)
    for text in [
      #"{"a":"devices"}"#, #"{"a":{"devices":1}}"#, #"{"device":1}"#, #"{"devicess":1}"#,
      #"{"\devices":1}"#, #"{"xdevices":1}"#,
    ] { #expect(!isObject(text).devices, "\(text)") }
  }
}
