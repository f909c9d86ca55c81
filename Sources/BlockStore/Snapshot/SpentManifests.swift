import DiskStrategy
import HostIO

/// Manifests of older copies that may not be used again: what was sent to their copies was remembered in the one file
/// that there is for that, and it serves another manifest or destination since. Kept on stable storage, 32 bytes each.
enum SpentManifests {
  /// Behind the path of the file that remembers what was sent.
  static let fileSuffix = "-spent"
  private static let entryBytes = 32
  /// With more of them every manifest counts as one.
  private static let countMax = 32_768

  /// - Parameter key: names manifest and destination.
  static func add(_ key: String, beside path: String) throws(SystemError) {
    guard try !contains(key, beside: path) else { return }
    let file = try RecordFile(path: path + fileSuffix)
    try file.append(entry(key))
    try file.flush()
  }

  static func contains(_ key: String, beside path: String) throws(SystemError) -> Bool {
    guard SmallFile.exists(path + fileSuffix) else { return false }
    let file = try RecordFile(path: path + fileSuffix)
    let bytes = try file.read(at: 0, count: (countMax + 1) * entryBytes)
    let own = entry(key)
    guard bytes.count <= countMax * entryBytes else { return true }
    // Entries begin at multiples of their length, but behind one that was torn: every place is looked at.
    return stride(from: 0, through: bytes.count - entryBytes, by: 1).contains { place in
      bytes[place] == own[0] && bytes[place..<(place + entryBytes)] == own[...]
    }
  }

  private static func entry(_ key: String) -> [UInt8] {
    let bytes = Array(key.utf8)
    // SAFETY: the array lives for the call, which only reads it.
    return unsafe bytes.withUnsafeBytes { unsafe DiskManifest.hash($0) }
  }
}
