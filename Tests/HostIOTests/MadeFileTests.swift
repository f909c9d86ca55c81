import Foundation
import Glibc
import HostIO
import Testing

/// A file is taken back only while it is the one that was made.
@Suite struct MadeFileTests {
  private let folder = "/tmp/godwit-made-\(UUID().uuidString.prefix(8))"
  private var path: String { folder + "/disk.raw" }

  private func names() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
  }

  @Test func isMadeOnceAndTakenBack() throws {
    try PrivateDirectory.make(folder)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let made = try MadeFile.make(path, label: "x", byteCount: 3 << 20)
    #expect(try names() == ["disk.raw", "disk.raw.x.part"])
    #expect(throws: SystemError.self) { try MadeFile.make(path, label: "y", byteCount: 1) }
    MadeFile.dropDraft(path, label: "x")
    #expect(try names() == ["disk.raw"])
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    #expect(attributes[.size] as? Int == 3 << 20)
    #expect(attributes[.posixPermissions] as? Int == 0o600)
    #expect(FileSpace.taken(by: path) == 0)
    made.remove()
    #expect(try names().isEmpty)
  }

  /// A name that somebody else has taken since is theirs.
  @Test func aStrangerStays() throws {
    try PrivateDirectory.make(folder)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let made = try MadeFile.make(path, label: "x", byteCount: 4096)
    try FileManager.default.moveItem(atPath: path, toPath: path + ".old")
    try Data([1]).write(to: URL(filePath: path))
    made.remove()
    MadeFile.removeDraft(path, label: "x")
    #expect(try names() == ["disk.raw", "disk.raw.old"])
    #expect(try Data(contentsOf: URL(filePath: path)) == Data([1]))
  }

  /// After a crash the draft's name alone tells which file was ours.
  @Test func theDraftTells() throws {
    try PrivateDirectory.make(folder)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try MadeFile.make(path, label: "x", byteCount: 4096)
    MadeFile.removeDraft(path, label: "x")
    #expect(try names().isEmpty)
    // Nothing was made yet.
    try Data([1]).write(to: URL(filePath: path))
    MadeFile.removeDraft(path, label: "x")
    #expect(try names() == ["disk.raw"])
  }

  /// A link at the place of a file is something that is there.
  @Test func aLinkIsNotFollowed() throws {
    try PrivateDirectory.make(folder)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createSymbolicLink(
      atPath: path, withDestinationPath: folder + "/elsewhere")
    #expect(throws: SystemError.self) { try MadeFile.make(path, label: "x", byteCount: 1) }
    #expect(try names() == ["disk.raw"])
  }
}
