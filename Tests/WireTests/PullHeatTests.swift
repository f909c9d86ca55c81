import Base
import Testing
import Wire

@Suite struct PullHeatTests {
  static let frame = PullHeat(block: 3, heat: 4, runs: [0x12..<0x14, 0x100..<0x101])
  static let bytes: [UInt8] =
    [0, 3, 4, 0, 0, 0, 0, 2]  // block, heat, runs
    + [0, 0, 0, 0, 0, 0, 0, 0x12, 0, 0, 0, 2]
    + [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

  private func decode(_ bytes: [UInt8]) throws -> PullHeat {
    var cursor = ByteCursor(bytes.span.bytes)
    return try PullHeat(decoding: &cursor)
  }

  @Test func theFrameHasItsGoldenForm() throws {
    var bytes: [UInt8] = []
    Self.frame.encode(into: &bytes)
    #expect(bytes == Self.bytes)
    #expect(try decode(bytes) == Self.frame)
  }

  @Test func everyOtherLengthIsRefused() {
    for length in 0..<Self.bytes.count {
      #expect(throws: DecodeError.self) { try decode(Array(Self.bytes.prefix(length))) }
    }
    #expect(throws: DecodeError.self) { try decode(Self.bytes + [0]) }
  }

  /// Place in the bytes, and what is put there.
  @Test(
    arguments: [
      (2, [0]), (2, [9]),  // heat
      (3, [1]),  // reserved
      (4, [0, 0, 0, 0]), (4, [0, 0, 0x40, 1]),  // no runs, too many
      (8, [0, 0x10]),  // beyond any block
      (16, [0, 0, 0, 0]),  // an empty run
      (16, [0, 1, 0, 0]),  // with the next one too many pages
      (26, [0, 0x13]),  // before the end of the run before
    ] as [(Int, [UInt8])])
  func whatNoPeerSendsIsRefused(at: Int, change: [UInt8]) {
    var bytes = Self.bytes
    bytes.replaceSubrange(at..<at + change.count, with: change)
    #expect(throws: DecodeError.self) { try decode(bytes) }
  }

  @Test func aFullFrameFitsItsLimit() throws {
    var bytes: [UInt8] = []
    let runs = (0..<UInt64(PullHeat.runsMax)).map { $0 * 8..<$0 * 8 + 4 }
    PullHeat(block: 0, heat: 8, runs: runs).encode(into: &bytes)
    #expect(bytes.count == FrameHeader.payloadLimit(.pullHeat))
    #expect(try decode(bytes).runs == runs)
  }
}
