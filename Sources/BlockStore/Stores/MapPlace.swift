import CLinux
import CXXHash
import Glibc
public import HostIO

/// Where the map of an image's move or pull is kept, and what it says of the image, so that it is used with no other.
///
/// Beside the image it has the image's name. In a folder for all maps it is named by what lasts, for the numbers that the
/// kernel gives devices may be others after a boot: of a file its inode and when that was made, whatever the file is called;
/// of a block device what the device says of itself (`/sys`). Only where it says nothing the kernel's numbers have to do.
public struct MapPlace: Sendable, Hashable {
  /// Nil: nowhere.
  public let path: String?
  /// Of the image.
  public let identity: String

  /// - Parameter maps: the folder for maps; nil: beside each image, and nowhere for block devices.
  public static func ofMove(_ image: String, maps: String?) throws(SystemError) -> MapPlace {
    let beside = [ChangeNotes.fileSuffix, BaseCopy.fileSuffix, OutsourcedStore.fileSuffix]
    return try find(image, maps, "map", [""] + beside)
  }

  /// The same; one that an earlier server left beside the image is never overlooked.
  public static func ofPull(_ image: String, maps: String?) throws(SystemError) -> MapPlace {
    let beside = image + ".godwit-pull"
    if maps != nil, SmallFile.exists(beside) { return try find(image, nil, "pull", [""]) }
    return try find(image, maps, "pull", [""])
  }

  /// - Parameter endings: of files that belong to the map.
  private static func find(
    _ image: String, _ maps: String?, _ kind: String, _ endings: [String]
  ) throws(SystemError) -> MapPlace {
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
    let lasting = lastingIdentity(of: image) ?? numbers
    return MapPlace(path: path(lasting, maps, kind), identity: lasting)
  }

  private static func path(_ identity: String, _ maps: String, _ kind: String) -> String {
    let name = String(identity.map { $0.isLetter || $0.isNumber ? $0 : "-" })
    return "\(maps)/\(name).godwit-\(kind)"
  }

  /// What tells an image from others, also after a boot; nil: nothing does.
  ///
  /// - Parameter devices: the kernel's folder of block devices by their numbers.
  static func lastingIdentity(
    of image: String, devices: String = "/sys/dev/block"
  ) -> String? {
    var status = Glibc.stat()
    guard unsafe stat(image, &status) == 0 else { return nil }
    if status.st_mode & S_IFMT == S_IFBLK {
      // As `major` and `minor` of sys/sysmacros.h take it apart.
      let device = UInt64(status.st_rdev)
      let major = device >> 8 & 0xFFF | device >> 32 & 0xFFFF_F000
      let minor = device & 0xFF | device >> 12 & 0xFFFF_FF00
      return lastingIdentity(ofDevice: "\(devices)/\(major):\(minor)")
    }
    // An inode's number is used again, and by other file systems: with that moment it is one file's.
    var born: Int64 = 0
    guard unsafe godwit_birth_time(image, &born) == 0 else { return nil }
    return "file \(status.st_ino) \(born)"
  }

  /// - Parameter folder: the device's own.
  static func lastingIdentity(ofDevice folder: String) -> String? {
    // A partition has none of its own: its disk's, and its number.
    let part = text("\(folder)/partition")
    let disk = part == nil ? folder : "\(folder)/.."
    for name in ["dm/uuid", "md/uuid", "wwid", "device/wwid"] {
      guard let said = text("\(disk)/\(name)") else { continue }
      return "device \(hash("\(name) \(said)"))" + (part.map { " part \($0)" } ?? "")
    }
    return nil
  }

  /// What a file of the kernel's says, without the line's end; nil: nothing.
  private static func text(_ path: String) -> String? {
    guard let text = try? SmallFile.read(path, bytesMax: 4096) else { return nil }
    let line = text.prefix { $0 != "\n" }
    return line.isEmpty ? nil : String(line)
  }

  /// 16 hexadecimal digits.
  private static func hash(_ text: String) -> String {
    let bytes = Array(text.utf8)
    // SAFETY: the array lives for the call, which only reads it.
    let hash = unsafe bytes.withUnsafeBytes { raw in
      unsafe XXH3_64bits(raw.baseAddress, raw.count)
    }
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
