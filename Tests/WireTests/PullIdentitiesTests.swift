import Base
import Testing
import Wire

@Suite struct PullIdentitiesTests {
  static let identity = [UInt8](repeating: 0xAB, count: 32)
  static let frame = PullIdentities(
    block: 3, firstPage: 0x1234,
    identities: [
      .unknown, .held(identity), .disk(DiskNote(image: 1, block: 0x56, identity: identity)),
      .vault(VaultNote(snapshot: 2, page: 0x78, identity: identity)),
    ])
  static let bytes: [UInt8] =
    [0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0x12, 0x34]  // block, pages, first page
    + [0]  // unknown
    + [1] + identity  // held
    + [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x56] + identity  // image 1, block 0x56
    + [3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x78] + identity  // snapshot 2, page 0x78

  private func decode(_ bytes: [UInt8]) throws -> PullIdentities {
    var cursor = ByteCursor(bytes.span.bytes)
    return try PullIdentities(decoding: &cursor)
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
      (2, [0, 0]),  // no pages
      (2, [0, 129]),  // more than the limit
      (4, [0, 0x10, 0, 0, 0, 0, 0, 0]),  // beyond any block
      (12, [4]),  // kind
      (49, [1]),  // reserved in the note
      (51, [0, 0, 0, 1]),  // beyond any image
      (94, [1]),  // reserved in the other note
      (96, [0, 0, 0, 4]),  // beyond any snapshot
    ] as [(Int, [UInt8])])
  func whatNoPeerSendsIsRefused(at: Int, change: [UInt8]) {
    var bytes = Self.bytes
    bytes.replaceSubrange(at..<at + change.count, with: change)
    #expect(throws: DecodeError.self) { try decode(bytes) }
  }

  @Test func aFullFrameFitsItsLimit() {
    var bytes: [UInt8] = []
    let note = PullIdentity.disk(DiskNote(image: 1, block: 2, identity: Self.identity))
    PullIdentities(
      block: 0, firstPage: 0,
      identities: Array(repeating: note, count: PullIdentities.pagesMax)
    ).encode(into: &bytes)
    #expect(bytes.count == FrameHeader.payloadLimit(.pullIdentities))
  }

  /// To a source that knows nothing of identities the end of a pull is said as before.
  @Test func theEndSaysWhatWasMadeHere() throws {
    var done = PullDone(placedPages: 9, faultPages: 4)
    var bytes: [UInt8] = []
    done.encode(into: &bytes)
    #expect(bytes.count == PullDone.byteCount)
    (done.snapshotPages, done.diskPages, done.localFaultPages) = (5, 2, 1)
    bytes = []
    done.encode(into: &bytes)
    #expect(bytes.count == PullDone.byteCount + 24)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try PullDone(decoding: &cursor) == done)
    done.vaultPages = 3
    bytes = []
    done.encode(into: &bytes)
    #expect(bytes.count == FrameHeader.payloadLimit(.pullDone))
    cursor = ByteCursor(bytes.span.bytes)
    #expect(try PullDone(decoding: &cursor) == done)
    for length in PullDone.byteCount + 1..<bytes.count where length != PullDone.byteCount + 24 {
      #expect(throws: DecodeError.self) {
        let part = Array(bytes.prefix(length))
        var cursor = ByteCursor(part.span.bytes)
        _ = try PullDone(decoding: &cursor)
      }
    }
    for count in [24, 32] {
      let empty = Array(bytes.prefix(PullDone.byteCount)) + [UInt8](repeating: 0, count: count)
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(empty.span.bytes)
        _ = try PullDone(decoding: &cursor)
      }
    }
  }
}
