import FoundationEssentials
import Glibc
import HostIO

/// A QEMU on this machine.
public struct QEMUProgram: Sendable, Equatable {
  public let path: String
  /// `10.0.2`.
  public let version: String
  /// Folders for `-L`, for a QEMU that was unpacked rather than installed.
  public let firmwareFolders: [String]

  public init(path: String, version: String, firmwareFolders: [String] = []) {
    (self.path, self.version, self.firmwareFolders) = (path, version, firmwareFolders)
  }

  /// Asks the program at `path` for its version and finds its firmware.
  public init(path: String) async throws {
    guard SmallFile.isExecutable(path) else { throw LabError("\(path) is not a program") }
    let result = try await Command.run(path, ["--version"])
    guard let version = Self.version(in: result) else {
      throw LabError("\(path) --version does not look like QEMU's: \(result.prefix(80))")
    }
    self.path = path
    self.version = version
    firmwareFolders = Self.firmwareFolders(of: path)
  }

  /// The default: the QEMU that the cache holds, else the one in PATH.
  public static func preferred(cache: CacheFolder) async throws -> QEMUProgram {
    let unpacked = "\(cache.path)/qemu/current/usr/bin/qemu-system-x86_64"
    if SmallFile.isExecutable(unpacked) { return try await QEMUProgram(path: unpacked) }
    return try await installed()
  }

  static let installedPath = "/usr/bin/qemu-system-x86_64"

  /// The distribution's own.
  public static func installed() async throws -> QEMUProgram {
    let path = installedPath
    guard SmallFile.isExecutable(path) else {
      throw LabError(
        "missing: QEMU (Debian package qemu-system-x86); run scripts/install-dependencies.sh")
    }
    return try await QEMUProgram(path: path)
  }

  /// `10.0.2` out of `QEMU emulator version 10.0.2 (Debian …)`.
  static func version(in text: String) -> String? {
    let words = text.split(whereSeparator: \.isWhitespace)
    guard let index = words.firstIndex(of: "version"), index + 1 < words.count else { return nil }
    let version = words[index + 1].prefix { $0.isNumber || $0 == "." }
    return version.contains(".") ? String(version) : nil
  }

  /// 0 where the version begins with no number.
  public var majorVersion: Int { Int(version.prefix { $0 != "." }) ?? 0 }

  /// `10.0`: what versioned machine types end in.
  public var machineVersion: String {
    version.split(separator: ".").prefix(2).joined(separator: ".")
  }

  /// Whether machine types of `self` exist in `other` too: an older QEMU does not know newer ones.
  func isOlder(than other: QEMUProgram) -> Bool {
    let own = version.split(separator: ".").map { Int($0) ?? 0 }
    let theirs = other.version.split(separator: ".").map { Int($0) ?? 0 }
    return own.lexicographicallyPrecedes(theirs)
  }

  private static func firmwareFolders(of path: String) -> [String] {
    let real = (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) ?? path
    guard real.hasSuffix("/usr/bin/qemu-system-x86_64"), real != "/usr/bin/qemu-system-x86_64"
    else {
      return []
    }
    let root = real.dropLast("/bin/qemu-system-x86_64".count)
    return ["/share/qemu", "/share/seabios", "/lib/ipxe/qemu"].map { root + $0 }
      .filter { SmallFile.isReadable($0) }
  }
}
