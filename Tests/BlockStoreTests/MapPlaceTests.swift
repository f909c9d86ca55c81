import Foundation
import HostIO
import Testing

@testable import BlockStore

/// Names of maps in a folder for all of them: the same after a boot that numbers devices anew.
@Suite struct MapPlaceTests {
  let folder = try! ScratchFolder()

  @Test func aFileIsKnownByItsInodeAndItsBirth() throws {
    let image = try folder.image(byteCount: 4096)
    let other = try folder.image("other.raw", byteCount: 4096)
    let place = try MapPlace.ofPull(image, maps: folder.path)
    let path = try #require(place.path)
    #expect(path.hasPrefix("\(folder.path)/file-") && path.hasSuffix(".godwit-pull"))
    // No number of a device is in it.
    let numbers = try FileStore.identity(of: image)
    let inode = try #require(numbers.split(separator: ":").last)
    #expect(place.identity.hasPrefix("file \(inode) "))
    #expect(place.identity.split(separator: " ").count == 3 && !place.identity.contains(":"))
    #expect(try MapPlace.ofPull(other, maps: folder.path).path != path)
    // By whatever name it is found.
    let link = folder.path + "/link.raw"
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: image)
    #expect(try MapPlace.ofPull(link, maps: folder.path) == place)
    #expect(try MapPlace.ofMove(image, maps: folder.path).identity == place.identity)
    let renamed = folder.path + "/renamed.raw"
    try FileManager.default.moveItem(atPath: image, toPath: renamed)
    #expect(try MapPlace.ofPull(renamed, maps: folder.path) == place)
    try FileManager.default.moveItem(atPath: renamed, toPath: image)
    // Another file under the same name is another image.
    try FileManager.default.removeItem(atPath: image)
    try FileManager.default.moveItem(atPath: other, toPath: image)
    #expect(try MapPlace.ofPull(image, maps: folder.path) != place)
  }

  @Test(arguments: ["map", "map.since", "map.base", "pull"])
  func mapsOfEarlierVersionsAreFound(ending: String) throws {
    let image = try folder.image(byteCount: 4096)
    let numbers = try FileStore.identity(of: image)
    let name = String(numbers.map { $0.isLetter || $0.isNumber ? $0 : "-" })
    let old = "\(folder.path)/\(name).godwit-"
    #expect(FileManager.default.createFile(atPath: old + ending, contents: nil))
    let isPull = ending == "pull"
    let (pull, move) = (
      try MapPlace.ofPull(image, maps: folder.path), try MapPlace.ofMove(image, maps: folder.path)
    )
    #expect((pull.path == old + "pull") == isPull && (pull.identity == numbers) == isPull)
    #expect((move.path == old + "map") == !isPull && (move.identity == numbers) == !isPull)
  }

  @Test func besideTheImageItHasTheImagesName() throws {
    let image = try folder.image(byteCount: 4096)
    let numbers = try FileStore.identity(of: image)
    let place = try MapPlace.ofMove(image, maps: nil)
    #expect(place.path == image + ".godwit-map" && place.identity == numbers)
    let pull = try MapPlace.ofPull(image, maps: nil)
    #expect(pull.path == image + ".godwit-pull" && pull.identity == numbers)
    #expect(FileManager.default.createFile(atPath: image + ".godwit-pull", contents: nil))
    #expect(try MapPlace.ofPull(image, maps: folder.path) == pull)
    #expect(throws: SystemError.self) { try MapPlace.ofMove(folder.path + "/none", maps: nil) }
  }

  /// What the kernel tells of a device, in a folder that looks as its own.
  private func device(_ name: String, _ files: [String: String]) throws -> BlockDeviceFolder {
    let path = "\(folder.path)/\(name)"
    for (file, text) in files {
      let whole = "\(path)/\(file)"
      try FileManager.default.createDirectory(
        atPath: String(whole[..<(whole.lastIndex(of: "/") ?? whole.endIndex)]),
        withIntermediateDirectories: true)
      try Data(text.utf8).write(to: URL(filePath: whole))
    }
    return BlockDeviceFolder(path: path)
  }

  @Test func aDeviceIsKnownByWhatItSaysOfItself() throws {
    let lvm = try device("dm-0", ["dm/uuid": "LVM-abc\n"])
    let moved = try device("dm-7", ["dm/uuid": "LVM-abc\n"])
    let other = try device("dm-1", ["dm/uuid": "LVM-def\n"])
    let disk = try device("nvme0n1", ["wwid": "eui.0025\n"])
    let first = try device("nvme0n1/nvme0n1p1", ["partition": "1\n"])
    let second = try device("nvme0n1/nvme0n1p2", ["partition": "2\n"])
    let silent = try device("vda", ["dm/uuid": "\n", "size": "8\n"])
    let known = [lvm, other, disk, first, second].map(\.lastingIdentity)
    #expect(known.allSatisfy { $0?.hasPrefix("device ") == true } && Set(known).count == 5)
    #expect(moved.lastingIdentity == known[0])
    #expect(silent.lastingIdentity == nil)
    #expect(MapPlace.lastingIdentity(of: folder.path + "/none") == nil)
    #expect(BlockDeviceFolder(of: folder.path) == nil)
  }

  /// Two paths to a disk, or a disk and its copy: a map would be found for either.
  @Test func twoDevicesThatSayTheSameAreNotTold() throws {
    let all = folder.path + "/all"
    try PrivateDirectory.make(all)
    func number(_ number: String, _ device: BlockDeviceFolder) throws {
      try FileManager.default.createSymbolicLink(
        atPath: "\(all)/\(number)", withDestinationPath: device.path)
    }
    let disk = try device("sda", ["device/wwid": "naa.5000\n"])
    let part = try device("sda/sda1", ["partition": "1\n"])
    try number("8:0", disk)
    try number("8:1", part)
    try number("8:32", try device("sdc", ["device/wwid": "naa.6000\n"]))
    // Neither itself nor its parts are another.
    #expect(disk.twin(in: all) == nil && part.twin(in: all) == nil)
    let silent = try device("vda", ["size": "8\n"])
    try number("254:0", silent)
    try number("254:16", try device("vdb", ["size": "8\n"]))
    #expect(silent.twin(in: all) == nil)
    let path = try device("sdb", ["device/wwid": "naa.5000\n"])
    try number("8:16", path)
    #expect(disk.twin(in: all) == "sdb" && part.twin(in: all) == "sdb")
    #expect(path.twin(in: all) == "sda")
    // By its numbers, too, as it is asked for.
    #expect(BlockDeviceFolder(path: "\(all)/8:1").twin(in: all) == "sdb")
  }
}
