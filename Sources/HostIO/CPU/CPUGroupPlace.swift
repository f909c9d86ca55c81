/// The control group that a thread's processor time is counted in: a folder of the hierarchy that has
/// the `cpu` controller.
public struct CPUGroupPlace: Sendable, Hashable, Codable {
  /// Which of the kernel's two interfaces; a host may have both, and the controller is in one of
  /// them.
  public enum Version: String, Sendable, Hashable, Codable {
    /// A hierarchy of the controller's own (cgroups(7), version 1).
    case v1
    /// The one hierarchy of version 2.
    case v2
  }

  public let version: Version
  /// Absolute, without a slash at the end.
  public let directory: String

  public init(version: Version, directory: String) {
    (self.version, self.directory) = (version, directory)
  }

  /// Where the thread is now; nil when it is gone or its hierarchy is not mounted here.
  public static func of(_ thread: ThreadIdentity) -> CPUGroupPlace? {
    guard let groups = ProcFile.text("/proc/\(thread.process.pid)/task/\(thread.tid)/cgroup"),
      let mounts = ProcFile.text("/proc/self/mountinfo")
    else { return nil }
    return find(groups: groups, mounts: mounts)
  }

  /// - Parameters:
  ///   - groups: `/proc/PID/task/TID/cgroup`: lines of `number:controllers:path`.
  ///   - mounts: `/proc/self/mountinfo` (proc(5)).
  static func find(groups: String, mounts: String) -> CPUGroupPlace? {
    var unified: Substring?
    for line in groups.split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      if fields[1].split(separator: ",").contains("cpu") {
        return place(of: fields[2], .v1, mounts)
      }
      if fields[0] == "0", fields[1].isEmpty { unified = fields[2] }
    }
    return unified.flatMap { place(of: $0, .v2, mounts) }
  }

  /// `36 35 98:0 /root /mount/point rw,noatime master:1 - cgroup cgroup rw,cpu,cpuacct`
  private static func place(
    of path: Substring, _ version: Version, _ mounts: String
  ) -> CPUGroupPlace? {
    for line in mounts.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 3 else {
        continue
      }
      let isWanted =
        switch version {
        case .v1:
          fields[dash + 1] == "cgroup" && fields[dash + 3].split(separator: ",").contains("cpu")
        case .v2: fields[dash + 1] == "cgroup2"
        }
      guard isWanted, let root = unescaped(fields[3]), let mountPoint = unescaped(fields[4]),
        let below = below(root, String(path))
      else { continue }
      return CPUGroupPlace(version: version, directory: mountPoint + below)
    }
    return nil
  }

  /// The rest of `path` under `root`: empty, or beginning with a slash; nil when it is not under it.
  /// A path outside of this process's own cgroup namespace begins with `/..`.
  private static func below(_ root: String, _ path: String) -> String? {
    guard path.hasPrefix("/"), !path.split(separator: "/").contains("..") else { return nil }
    if root == "/" { return path == "/" ? "" : path }
    guard path == root || path.hasPrefix(root + "/") else { return nil }
    return String(path.dropFirst(root.count))
  }

  /// The kernel writes spaces, tabs, newlines and backslashes as three octal digits.
  private static func unescaped(_ field: Substring) -> String? {
    guard field.contains("\\") else { return String(field) }
    var bytes: [UInt8] = []
    var rest = Array(field.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 3,
        let value = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
      else { return nil }
      bytes.append(value)
      rest.removeFirst(3)
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
