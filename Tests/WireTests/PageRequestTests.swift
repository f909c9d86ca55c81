import Base
import Testing
import Wire

@Suite struct PageRequestTests {
  private let places = [PagePlace(block: 0, page: 7), PagePlace(block: 3, page: 1 << 40)]

  @Test func requestAndAnswerComeBackAsTheyWere() throws {
    var bytes: [UInt8] = []
    let request = PageRequestFrame(sequence: 9, places: places)
    request.encode(into: &bytes)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try PageRequestFrame(decoding: &cursor) == request)
    let answer = PageAnswerFrame(
      sequence: 9, places: places, bytes: (0..<2 * Page.size).map { UInt8(truncatingIfNeeded: $0) })
    bytes = []
    answer.encode(into: &bytes)
    #expect(bytes.count <= FrameHeader.payloadLimit(.pageAnswer))
    cursor = ByteCursor(bytes.span.bytes)
    #expect(try PageAnswerFrame(decoding: &cursor) == answer)
  }

  @Test func everyPrefixAndWhatFollowsIsRefused() {
    var bytes: [UInt8] = []
    PageRequestFrame(sequence: 9, places: places).encode(into: &bytes)
    for count in 0..<bytes.count {
      let part = Array(bytes[..<count])
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(part.span.bytes)
        _ = try PageRequestFrame(decoding: &cursor)
      }
    }
    bytes.append(0)
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try PageRequestFrame(decoding: &cursor)
    }
    // None, and more than a batch has.
    for count in [0, 129] as [UInt8] {
      let lie = [0, 0, 0, 0, 0, 0, 0, 9, 0, count] + [UInt8](repeating: 0, count: 129 * 12)
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(lie.span.bytes)
        _ = try PageRequestFrame(decoding: &cursor)
      }
    }
  }
}
