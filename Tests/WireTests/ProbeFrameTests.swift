import Base
import Testing
import Wire

@Suite struct ProbeFrameTests {
  private let bytes: [UInt8] =
    [0, 0, 0, 0, 0, 0, 0, 7]  // number
    + [0, 0, 0, 0, 0x01, 0x80, 0, 0]  // received
    + [0, 0, 0, 0, 0, 0, 0x12, 0x34]  // microseconds
  private let mark = ProbeMark(number: 7, receivedBytes: 0x0180_0000, atUs: 0x1234)

  @Test func marksHaveTheirGoldenForm() throws {
    var encoded: [UInt8] = []
    mark.encode(into: &encoded)
    #expect(encoded == bytes && bytes.count == ProbeMark.byteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try ProbeMark(decoding: &cursor) == mark)
  }

  @Test func otherLengthsAreRefused() {
    for wrong in (0..<bytes.count).map({ Array(bytes.prefix($0)) }) + [bytes + [0]] {
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(wrong.span.bytes)
        _ = try ProbeMark(decoding: &cursor)
      }
    }
  }

  /// What one connection may send fits the counters, and a burst of one frame is allowed.
  @Test func limitsAreWithinReason() {
    #expect(FrameHeader.payloadLimit(.probe) == ProbeLimits.fillerMax)
    #expect(UInt64(ProbeLimits.fillerMax) < ProbeLimits.connectionBytesMax)
    var hello: [UInt8] = []
    let id = MigrationID(high: 1, low: 2)
    Hello(role: .probe, lane: 3, migration: id, token: id).encode(into: &hello)
    var cursor = ByteCursor(hello.span.bytes)
    #expect((try? Hello(decoding: &cursor))?.role == .probe)
  }
}
