import CXXHash
import Glibc
import HostIO

/// What the kernel tells of a block device in a folder of `/sys`.
struct BlockDeviceFolder {
  /// Where it has one for each device, by the device's numbers.
  static let all = "/sys/dev/block"

  let path: String

  init(path: String) { self.path = path }

  /// nil: the file is no block device, or isn't there.
  init?(of file: String) {
    var status = stat()
    guard unsafe stat(file, &status) == 0, status.st_mode & S_IFMT == S_IFBLK else { return nil }
    // As `major` and `minor` of sys/sysmacros.h take it apart.
    let device = UInt64(status.st_rdev)
    let major = device >> 8 & 0xFFF | device >> 32 & 0xFFFF_F000
    let minor = device & 0xFF | device >> 12 & 0xFFFF_FF00
    path = "\(Self.all)/\(major):\(minor)"
  }

  /// Of a partition its number; it says nothing of itself but that, and its disk speaks for it.
  private var partition: String? { text("\(path)/partition") }
  private var disk: String { partition == nil ? path : "\(path)/.." }

  /// What the disk says of itself, with how it says it.
  private var word: String? {
    for name in ["dm/uuid", "md/uuid", "wwid", "device/wwid"] {
      if let said = text("\(disk)/\(name)") { return "\(name) \(said)" }
    }
    return nil
  }

  /// What tells the device from others, also after a boot that numbers devices anew; nil: it says nothing of itself.
  var lastingIdentity: String? {
    word.map { "device \(Self.hash($0))" + (partition.map { " part \($0)" } ?? "") }
  }

  /// The name of another disk that is there and says the same of itself; nil: there is none.
  ///
  /// - Parameter folder: has each device's folder.
  func twin(in folder: String = Self.all) -> String? {
    guard let word, let own = ImageFile.realPath(disk) else { return nil }
    for name in ProcFile.names(in: folder).sorted() {
      let other = BlockDeviceFolder(path: "\(folder)/\(name)")
      guard other.partition == nil, other.word == word, let path = ImageFile.realPath(other.path),
        path != own
      else { continue }
      return path.split(separator: "/").last.map(String.init)
    }
    return nil
  }

  /// What a file of the kernel's says, without the line's end; nil: nothing.
  private func text(_ path: String) -> String? {
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
