import Base
import Testing
import Wire

@Suite struct VaultNoteTests {
  @Test func itIsReadAsItWasWritten() throws {
    let note = VaultNote(snapshot: 4, page: 1 << 34 - 1, identity: Array(1...32))
    var bytes: [UInt8] = []
    note.encode(into: &bytes)
    #expect(bytes.count == VaultNote.byteCount && bytes.count == PageKind.vault.noteByteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try VaultNote(decoding: &cursor) == note)
    #expect(PageKind.vault.isReference && !PageKind.vault.isPacked)
    for count in 0..<bytes.count {
      let cut = Array(bytes.prefix(count))
      #expect(throws: DecodeError.self) {
        var cursor = ByteCursor(cut.span.bytes)
        _ = try VaultNote(decoding: &cursor)
      }
    }
  }

  /// The reserved bytes, and a page beyond any snapshot.
  @Test(arguments: [2, 3, 4, 7]) func whatNoHonestSourceWritesIsRefused(place: Int) {
    var bytes: [UInt8] = []
    VaultNote(snapshot: 0, page: 5, identity: Array(1...32)).encode(into: &bytes)
    bytes[place] = 4
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try VaultNote(decoding: &cursor)
    }
  }
}
