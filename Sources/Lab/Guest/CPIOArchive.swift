/// A cpio archive in the "newc" format, as the Linux kernel unpacks it into its initramfs
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
///
/// ```
/// 6   magic "070701"
/// 8×13  inode mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
/// name, NUL, padding to 4; content, padding to 4
/// ```
/// All numbers are 8 hexadecimal digits. Times are 0, so that equal content gives equal bytes.
public struct CPIOArchive: Sendable {
  /// What was added so far; an archive only after `finish`.
  public private(set) var bytes: [UInt8] = []
  private var inode: UInt32 = 0

  public init() {}

  private enum Kind: UInt32 {
    case directory = 0o040000
    case file = 0o100000
    case link = 0o120000
    case device = 0o020000
  }

  /// Names are paths without a leading slash; a folder has to be added before what lies in it.
  public mutating func add(directory name: String, mode: UInt32 = 0o755) {
    append(name, .directory, mode: mode, content: [])
  }
  public mutating func add(file name: String, content: [UInt8], mode: UInt32 = 0o644) {
    append(name, .file, mode: mode, content: content)
  }
  public mutating func add(link name: String, to target: String) {
    append(name, .link, mode: 0o777, content: Array(target.utf8))
  }
  /// A character device; `/dev/console` has to be there before the guest's init runs.
  public mutating func add(device name: String, major: UInt32, minor: UInt32) {
    append(name, .device, mode: 0o600, content: [], device: (major, minor))
  }

  /// Ends the archive; nothing may be added afterwards.
  public mutating func finish() {
    inode = 0
    append("TRAILER!!!", nil, mode: 0, content: [])
    while bytes.count % 512 != 0 { bytes.append(0) }
  }

  private mutating func append(
    _ name: String, _ kind: Kind?, mode: UInt32, content: [UInt8],
    device: (UInt32, UInt32) = (0, 0)
  ) {
    if kind != nil { inode += 1 }
    bytes += Array("070701".utf8)
    let fields: [UInt32] = [
      inode, (kind?.rawValue ?? 0) | mode, 0, 0, kind == .directory ? 2 : 1, 0,
      UInt32(truncatingIfNeeded: content.count), 0, 0, device.0, device.1,
      UInt32(truncatingIfNeeded: name.utf8.count + 1), 0,
    ]
    for field in fields {
      let digits = String(field, radix: 16)
      bytes += Array(String(repeating: "0", count: 8 - digits.count).utf8) + Array(digits.utf8)
    }
    bytes += Array(name.utf8) + [0]
    pad()
    bytes += content
    pad()
  }

  private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }
}
