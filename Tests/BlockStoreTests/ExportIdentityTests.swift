import Foundation
import HostIO
import Testing

@testable import BlockStore

/// What exports say of their images.
@Suite struct ExportIdentityTests {
  let folder = try! ScratchFolder()

  /// An inode's number is given again at once; the moment at which the file was made is not.
  @Test func aFileThatIsMadeAnewIsAnotherOne() throws {
    let image = try folder.image(byteCount: 4096)
    let before = try ExportIdentity.of(image)
    try #require(before.split(separator: " ").count == 3, "no birth times here: \(before)")
    #expect(before.hasPrefix(try FileStore.identity(of: image) + " "))
    let renamed = folder.path + "/renamed.raw"
    try FileManager.default.moveItem(atPath: image, toPath: renamed)
    #expect(try ExportIdentity.of(renamed) == before)
    try Data([1, 2, 3]).write(to: URL(filePath: renamed), options: [])
    #expect(try ExportIdentity.isSame(before, ExportIdentity.of(renamed)))
    for _ in 0..<20 {
      try FileManager.default.removeItem(atPath: renamed)
      _ = try folder.image("renamed.raw", byteCount: 4096)
      let now = try ExportIdentity.of(renamed)
      #expect(now != before && !ExportIdentity.isSame(before, now))
    }
    #expect(throws: SystemError.self) { try ExportIdentity.of(folder.path + "/none") }
  }

  @Test func aServerOfAnEarlierVersionHasTheImage() throws {
    let image = try folder.image(byteCount: 4096)
    let other = try folder.image("other.raw", byteCount: 4096)
    #expect(try ExportIdentity.isOwn(ExportIdentity.of(image), image))
    #expect(try ExportIdentity.isOwn(FileStore.identity(of: image), image))
    #expect(try !ExportIdentity.isOwn(ExportIdentity.of(other), image))
    #expect(try !ExportIdentity.isOwn(ExportIdentity.of(image) + " (moving)", image))
    #expect(try !ExportIdentity.isOwn("", image))
  }

  @Test(
    arguments: [
      ("", "", true), ("a disk", "a disk", true), ("a disk", "", false), ("", "file 1:2 3", false),
      ("file 1:2 3", "file 1:2 3", true), ("file 1:2 3", "file 1:2 4", false),
      // After a boot.
      ("file 1:2 3", "file 9:2 3", true), ("file 1:2 3", "file 1:4 3", false),
      // Noted by an earlier version, and by this one of an earlier server.
      ("file 1:2", "file 1:2 3", true), ("file 1:2", "file 1:3 3", false),
      ("file 1:2", "file 9:2 3", false), ("file 1:2 3", "file 1:2", false),
      ("device 7", "device 8", false), ("file 1:2 x", "file 9:2 x", false),
      ("file 1:2 3 4", "file 9:2 3 4", false), ("file 1:2:5 3", "file 9:2:5 3", false),
    ] as [(String, String, Bool)])
  func whichIsTheSame(known: String, told: String, isSame: Bool) {
    #expect(ExportIdentity.isSame(known, told) == isSame)
  }

  /// What happens to the disk makes it no other one.
  @Test func notesDontCount() {
    for note in MovableStore.exportNotes {
      #expect(ExportIdentity.plain("file 1:2 3" + note) == "file 1:2 3")
    }
    #expect(ExportIdentity.plain(String(repeating: "x", count: 1000)).utf8.count == 400)
  }
}
