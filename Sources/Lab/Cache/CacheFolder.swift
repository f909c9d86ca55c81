import FoundationEssentials
import Glibc
import HostIO

/// Where the lab keeps what is slow to make: unpacked packages, the guest program, guest images.
///
/// Everything lies under a key made of its ingredients' versions, so that what is there is right;
/// things are made beside their place and moved there when they are complete.
public struct CacheFolder: Sendable {
  public let path: String

  /// `$GODWIT_CACHE`, else `$XDG_CACHE_HOME/godwit`, else `~/.cache/godwit`.
  public init(environment: [String: String]) {
    func set(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    if let own = set("GODWIT_CACHE") {
      path = own
    } else if let cache = set("XDG_CACHE_HOME") {
      path = cache + "/godwit"
    } else {
      path = (set("HOME") ?? "/root") + "/.cache/godwit"
    }
  }

  /// From this process's environment.
  public init() { self.init(environment: ProcessInfo.processInfo.environment) }

  public init(path: String) { self.path = path }

  /// The file at `kind/key/name`, made by `make` when it is not there. Runs of several processes
  /// at once make it once: the folder is locked meanwhile.
  public func file(
    kind: String, key: String, name: String, make: (_ partial: String) async throws -> Void
  ) async throws -> String {
    let folder = "\(path)/\(kind)/\(key)"
    let file = "\(folder)/\(name)"
    if SmallFile.isReadable(file) { return file }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let lock = try await FileLock.acquire("\(path)/lock")
    defer { lock.release() }
    if SmallFile.isReadable(file) { return file }
    let partial = "\(file).partial"
    try await make(partial)
    guard unsafe rename(partial, file) == 0 else {
      throw LabError("cannot move \(partial) into its place: errno \(errno)")
    }
    return file
  }

  /// A key of 16 hexadecimal digits over the parts (FNV-1a: for cache names, not against an enemy).
  public static func key(_ parts: [String]) -> String {
    let digits = String(hash(parts), radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  static func hash(_ parts: [String]) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for part in parts {
      for byte in Array(part.utf8) + [0] { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    }
    return hash
  }
}
