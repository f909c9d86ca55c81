import Base
import QEMUStream
import Testing

@Suite struct CommandTests {
  static let all: [(StreamCommand, [UInt8])] = [
    (.openReturnPath, [8, 0, 1, 0, 0]),
    (.ping(0x0102_0304), [8, 0, 2, 0, 4, 1, 2, 3, 4]),
    (
      .postcopyAdvise(.init(summary: 0x20_1000, targetPage: 4096)),
      [8, 0, 3, 0, 16, 0, 0, 0, 0, 0, 0x20, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]
    ),
    (.postcopyAdvise(nil), [8, 0, 3, 0, 0]),
    (.postcopyListen, [8, 0, 4, 0, 0]),
    (.postcopyRun, [8, 0, 5, 0, 0]),
    (
      .ramDiscard(block: "ab", ranges: [.init(start: 0x1000, length: 0x2000)]),
      [8, 0, 6, 0, 21, 0, 2, 0x61, 0x62, 0]  // version, name, terminator
        + [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0]
    ),
    (.packaged(length: 258), [8, 0, 7, 0, 4, 0, 0, 1, 2]),
    (.enableCOLO, [8, 0, 8, 0, 0]),
    (.postcopyResume, [8, 0, 9, 0, 0]),
    (.receivedBitmap(block: "r"), [8, 0, 10, 0, 2, 1, 0x72]),
    (.switchoverStart, [8, 0, 11, 0, 0]),
  ]

  @Test(arguments: all.indices) func bytesAreThoseOfTheFormat(index: Int) throws {
    let (command, bytes) = Self.all[index]
    var out: [UInt8] = []
    command.encode(into: &out)
    #expect(out == bytes)
    let decoded = try StreamCommand(record: bytes.span.bytes)
    #expect(decoded == command)
    // Data one byte short or one byte long is refused, except where less is another command.
    let data = Array(bytes.dropFirst(5))
    if !data.isEmpty {
      #expect(throws: DecodeError.self) {
        try StreamCommand(
          code: command.code, data: data.span.bytes.extracting(0..<(data.count - 1)))
      }
    }
    let longer = data + [0]
    #expect(throws: DecodeError.self) {
      try StreamCommand(code: command.code, data: longer.span.bytes)
    }
  }

  @Test func unknownCodesAreNotGuessed() throws {
    for code in [0, 12, 99, 65535] as [UInt16] {
      let nothing: [UInt8] = []
      let decoded = try StreamCommand(code: code, data: nothing.span.bytes)
      #expect(decoded == nil)
    }
    #expect(StreamCommand.name(ofCode: 11) == "SWITCHOVER_START")
    #expect(StreamCommand.name(ofCode: 12) == nil)
    #expect(StreamCommand.name(ofCode: 0) == nil)
  }

  @Test func discardOfAnotherVersionIsRefused() {
    let data: [UInt8] = [1, 1, 0x61, 0]
    #expect(throws: DecodeError.self) { try StreamCommand(code: 6, data: data.span.bytes) }
  }
}
