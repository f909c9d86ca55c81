import CLinux
import Glibc
import HostIO

/// Where the map of an image's move or pull is kept, and what it says of the image, so that it is used with no other.
///
/// Beside the image it has the image's name. In a folder for all maps it is named by what lasts, for the numbers that the
/// kernel gives devices may be others after a boot: of a file its inode and when that was made, whatever the file is called;
/// of a block device what the device says of itself (`/sys`). Only where it says nothing the kernel's numbers have to do. What two
/// devices say of themselves, two paths to one disk, or a disk and its copy, tells neither: then there is no place.
public struct MapPlace: Sendable, Hashable {
  /// Nil: nowhere.
  public let path: String?
  /// Of the image.
  public let identity: String

  /// - Parameter maps: the folder for maps; nil: beside each image, and nowhere for block devices.
  public static func ofMove(_ image: String, maps: String?) throws -> MapPlace {
    let beside = [ChangeNotes.fileSuffix, BaseCopy.fileSuffix, OutsourcedStore.fileSuffix]
    return try find(image, maps, "map", [""] + beside)
  }

  /// The same; one that an earlier server left beside the image is never overlooked.
  public static func ofPull(_ image: String, maps: String?) throws -> MapPlace {
    let beside = image + ".godwit-pull"
    if maps != nil, SmallFile.exists(beside) { return try find(image, nil, "pull", [""]) }
    return try find(image, maps, "pull", [""])
  }

  /// - Parameter endings: of files that belong to the map.
  private static func find(
    _ image: String, _ maps: String?, _ kind: String, _ endings: [String]
  ) throws -> MapPlace {
    let numbers = try FileStore.identity(of: image)
    guard let maps else {
      return MapPlace(
        path: numbers.hasPrefix("file ") ? "\(image).godwit-\(kind)" : nil, identity: numbers)
    }
    // What an earlier version began under the kernel's numbers goes on under them.
    let old = path(numbers, maps, kind)
    if endings.contains(where: { SmallFile.exists(old + $0) }) {
      return MapPlace(path: old, identity: numbers)
    }
    if let device = BlockDeviceFolder(of: image), let twin = device.twin() {
      throw MoveError(
        "\(image) can't be told from \(twin), which says the same of itself, so a map in \(maps) could be taken for the "
          + "other's: serve the device above both (multipath), or take the one away that isn't wanted"
      )
    }
    let lasting = lastingIdentity(of: image) ?? numbers
    return MapPlace(path: path(lasting, maps, kind), identity: lasting)
  }

  private static func path(_ identity: String, _ maps: String, _ kind: String) -> String {
    let name = String(identity.map { $0.isLetter || $0.isNumber ? $0 : "-" })
    return "\(maps)/\(name).godwit-\(kind)"
  }

  /// What tells an image from others, also after a boot; nil: nothing does.
  static func lastingIdentity(of image: String) -> String? {
    if let device = BlockDeviceFolder(of: image) { return device.lastingIdentity }
    // An inode's number is used again, and by other file systems: with that moment it is one file's.
    var status = Glibc.stat()
    var born: Int64 = 0
    guard unsafe stat(image, &status) == 0, unsafe godwit_birth_time(image, &born) == 0 else {
      return nil
    }
    return "file \(status.st_ino) \(born)"
  }
}
