import Base
import Testing
import Wire

@Suite struct SnapshotFiltersTests {
  static func frame(seed: UInt64) -> SnapshotFilters {
    var random = SplitMix64(seed: seed)
    let count = [0, 1, 7, 8, 9, 1000, SnapshotFilters.pagesMax][Int(seed % 7)]
    return SnapshotFilters(
      block: 3, isLast: seed % 2 == 0, firstPage: random.next() >> 20,
      filters: (0..<count).map { _ in random.next() % 3 == 0 ? nil : random.next() })
  }

  static func bytes(_ frame: SnapshotFilters) -> [UInt8] {
    var bytes: [UInt8] = []
    frame.encode(into: &bytes)
    return bytes
  }

  static func decode(_ bytes: [UInt8]) throws -> SnapshotFilters {
    var cursor = ByteCursor(bytes.span.bytes)
    return try SnapshotFilters(decoding: &cursor)
  }

  @Test(arguments: UInt64(0)..<14) func comeBack(seed: UInt64) throws {
    let frame = Self.frame(seed: seed)
    let bytes = Self.bytes(frame)
    #expect(bytes.count <= FrameHeader.payloadLimit(.snapshotFilters))
    #expect(try Self.decode(bytes) == frame)
    #expect(throws: DecodeError.self) { try Self.decode(bytes + [0]) }
  }

  @Test func everyCutIsRefused() throws {
    let bytes = Self.bytes(Self.frame(seed: 4))
    for count in 0..<bytes.count {
      #expect(throws: DecodeError.self) { try Self.decode(Array(bytes[..<count])) }
    }
  }

  @Test func whatTheFormatDoesNotAllowIsRefused() throws {
    let bytes = Self.bytes(
      SnapshotFilters(block: 0, isLast: false, firstPage: 9, filters: [7, nil]))
    // Flags, the reserved byte, the count, the first page, a bit beyond the pages.
    for (place, value) in [(2, 2), (3, 1), (4, 1), (8, 1), (16, 5)] as [(Int, UInt8)] {
      var changed = bytes
      changed[place] = value
      #expect(throws: DecodeError.self, "byte \(place)") { try Self.decode(changed) }
    }
  }
}
