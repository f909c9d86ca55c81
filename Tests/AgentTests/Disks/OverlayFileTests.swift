import BlockStore
import Foundation
import HostIO
import Testing

@testable import Agent

/// The names that an overlay's file has, whoever is killed.
@Suite struct OverlayFileTests {
  private func using(_ body: (_ overlay: String) throws -> Void) throws {
    let folder = "/tmp/godwit-overlay-file-\(UUID().uuidString.prefix(8))"
    try PrivateDirectory.make(folder)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try write("image", folder + "/disk")
    try body(folder + "/disk" + ImageOverlay.suffix)
  }

  private func write(_ text: String, _ path: String) throws {
    try SmallFile.write(Array(text.utf8), to: path)
  }

  @Test func aNameIsTakenAndGivenBack() throws {
    try using { overlay in
      #expect(!OverlayFile.isSetAside(overlay))
      try write("new", overlay)
      try OverlayFile.setAside(overlay)
      try OverlayFile.setAside(overlay)
      #expect(OverlayFile.isSetAside(overlay) && !ImageOverlay(at: overlay).holdsSomething)
      try OverlayFile.takeBack(overlay)
      #expect(try SmallFile.read(overlay) == "new" && !OverlayFile.isSetAside(overlay))
      #expect(!SmallFile.exists(overlay + ".done"))
    }
  }

  /// A file that was set aside long ago never takes the place of the guest's disk.
  @Test func anOldOneStaysAway() throws {
    try using { overlay in
      try write("old", overlay + ".done")
      try write("new", overlay)
      #expect(!OverlayFile.isSetAside(overlay))
      #expect(throws: SystemError.self) { try OverlayFile.takeBack(overlay) }
      try OverlayFile.removeIfEmpty(overlay)
      #expect(try SmallFile.read(overlay) == "new")
      // Where there is no overlay it goes.
      try write("", overlay)
      try OverlayFile.removeIfEmpty(overlay)
      #expect(!SmallFile.exists(overlay) && !SmallFile.exists(overlay + ".done"))
      try write("old", overlay + ".done")
      try OverlayFile.removeIfEmpty(overlay)
      #expect(!SmallFile.exists(overlay + ".done"))
    }
  }

  /// Nobody has it open for writing, by whatever path its image is asked for.
  @Test func anOrphanIsFoundByEveryPath() throws {
    try using { overlay in
      let image = String(overlay.dropLast(ImageOverlay.suffix.count))
      try FileManager.default.createSymbolicLink(
        atPath: image + "-link", withDestinationPath: image)
      #expect(ImageOverlay(of: image + "-link").path == ImageOverlay(of: image).path)
      #expect(!ImageOverlay(of: image).isOrphaned())
      try write("new", overlay)
      #expect(ImageOverlay(of: image + "-link").isOrphaned())
    }
  }
}
