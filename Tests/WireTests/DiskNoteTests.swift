import Base
import Testing
import Wire

@Suite struct DiskNoteTests {
  @Test func comesBackAsItWas() throws {
    let note = DiskNote(image: 3, block: 1 << 31, identity: Array(1...32))
    var bytes: [UInt8] = []
    note.encode(into: &bytes)
    #expect(bytes.count == DiskNote.byteCount && bytes.count == PageKind.disk.noteByteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try DiskNote(decoding: &cursor) == note)
    #expect(PageKind.disk.isReference && !PageKind.disk.isPacked)
    for count in bytes.indices {
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(Array(bytes[..<count]).span.bytes)
        _ = try DiskNote(decoding: &cursor)
      }
    }
    // The reserved field, and a block that no image has.
    for place in [2, 3, 4, 7] {
      var changed = bytes
      changed[place] = 1
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(changed.span.bytes)
        _ = try DiskNote(decoding: &cursor)
      }
    }
  }
}
