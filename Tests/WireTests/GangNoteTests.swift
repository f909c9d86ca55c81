import Base
import Testing
import Wire

@Suite struct GangNoteTests {
  @Test func comesBackAsItWas() throws {
    let note = GangNote(member: 255, block: 3, page: 1 << 51, identity: Array(1...32))
    var bytes: [UInt8] = []
    note.encode(into: &bytes)
    #expect(bytes.count == GangNote.byteCount && bytes.count == PageKind.gang.noteByteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try GangNote(decoding: &cursor) == note)
    #expect(PageKind.gang.isReference && !PageKind.gang.isPacked)
    for count in bytes.indices {
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(Array(bytes[..<count]).span.bytes)
        _ = try GangNote(decoding: &cursor)
      }
    }
    // A page that no block has.
    bytes[4] = 1
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try GangNote(decoding: &cursor)
    }
  }
}
