import Base
import Testing
import Wire

@Suite struct FrameTests {
  static let batch = BatchHeader(
    place: SequencedHeader(sequence: 7, after: 3),
    runs: [
      PageRun(block: 0, pageClass: .zero, firstPage: 0x1234, count: 512),
      PageRun(block: 1, pageClass: .raw, firstPage: 9, count: 2),
    ])
  static let golden: [UInt8] = [
    0, 0, 0, 0, 0, 0, 0, 7,  // sequence
    0, 0, 0, 0, 0, 0, 0, 3,  // after
    0, 0, 0, 2,  // runs
    0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34,  // block 0, zero, 512 pages
    0, 1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9,  // block 1, raw, 2 pages
  ]

  @Test func batchHasItsGoldenForm() throws {
    var bytes: [UInt8] = []
    Self.batch.encode(into: &bytes)
    #expect(bytes == Self.golden)
    bytes += [UInt8](repeating: 5, count: 2 * Page.size)
    var cursor = ByteCursor(bytes.span.bytes)
    let decoded = try BatchHeader(decoding: &cursor)
    #expect(decoded == Self.batch)
    #expect(decoded.rawPageCount == 2)
    #expect(cursor.remaining == 2 * Page.size)
  }

  @Test(arguments: 0..<golden.count) func everyPrefixOfABatchIsRefused(length: Int) {
    let bytes = Array(Self.golden.prefix(length))
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try BatchHeader(decoding: &cursor)
    }
  }

  @Test func batchWithoutItsPageBytesIsRefused() {
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(Self.golden.span.bytes)
      _ = try BatchHeader(decoding: &cursor)
    }
  }

  @Test func hugeLengthsAreRefusedBeforeAnythingIsReserved() {
    var bytes: [UInt8] = []
    FrameHeader(type: .pages, payloadLength: Int(UInt32.max), payloadChecksum: 0).encode(
      into: &bytes)
    #expect {
      var c = ByteCursor(bytes.span.bytes); _ = try FrameHeader(decoding: &c)
    } throws: {
      ($0 as? DecodeError)?.code == .overLimit
    }
  }

  @Test(arguments: FrameType.allCases) func headersRoundTrip(type: FrameType) throws {
    var bytes: [UInt8] = []
    let header = FrameHeader(
      type: type, payloadLength: FrameHeader.payloadLimit(type), number: 7, payloadChecksum: 9)
    header.encode(into: &bytes)
    #expect(bytes.count == FrameHeader.byteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    let decoded = try FrameHeader(decoding: &cursor)
    #expect(decoded == header)
  }

  @Test func helloRoundTripsAndChecksItsVersion() throws {
    var random = SplitMix64(seed: 1)
    let hello = Hello(
      role: .data, lane: 3, migration: MigrationID(using: &random),
      token: MigrationID(using: &random))
    var bytes: [UInt8] = []
    hello.encode(into: &bytes)
    #expect(bytes.count == Hello.byteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    let decoded = try Hello(decoding: &cursor)
    #expect(decoded == hello)
    bytes[1] = 99
    #expect {
      var c = ByteCursor(bytes.span.bytes); _ = try Hello(decoding: &c)
    } throws: {
      ($0 as? DecodeError)?.code == .badVersion
    }
  }

  @Test func migrationIDsReadWhatTheyPrint() {
    let id = MigrationID(high: 0xFF, low: 1)
    #expect(id.description == "00000000000000ff0000000000000001")
    #expect(MigrationID(id.description) == id)
    #expect(MigrationID("xyz") == nil)
    for sign in ["+", "-"] {
      #expect(MigrationID(sign + String(repeating: "0", count: 31)) == nil)
    }
  }

  @Test(arguments: UInt64(1)...200) func randomBytesNeverTrap(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var bytes = Self.golden + [UInt8](repeating: 1, count: Page.size)
    for _ in 0..<8 {
      bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
        in: 0...255, using: &random)
    }
    var cursor = ByteCursor(bytes.span.bytes)
    if let decoded = try? BatchHeader(decoding: &cursor) {
      #expect(decoded.rawPageCount <= BatchLimits.rawPagesMax)
    }
  }
}
