import Glibc
import HostIO

/// Which paths a VM's arguments may name.
struct PathRule: Sendable, Equatable {
  /// Clean absolute paths; each covers itself and everything below it.
  let allowed: [String]

  /// Absolute, and without `..` or empty or `.` components, so that the text means what it says.
  static func isClean(_ path: String) -> Bool {
    guard path.hasPrefix("/"), !path.utf8.contains(0) else { return false }
    if path == "/" { return true }
    let parts = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    // One slash at the end is common in folders' names and harmless.
    let meant = parts.last?.isEmpty == true ? parts.dropLast() : parts[...]
    return meant.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
  }

  /// Whether `path` is `prefix` or below it, by whole components.
  static func covers(_ prefix: String, _ path: String) -> Bool {
    let bare = prefix.hasSuffix("/") ? String(prefix.dropLast()) : prefix
    return path == bare || path.hasPrefix(bare + "/")
  }

  /// Whether the path lies, by its text and after following every symbolic link, below one and the
  /// same allowed place (whose own links count as the operator's will).
  func allows(_ path: String) -> Bool {
    guard Self.isClean(path) else { return false }
    let real = Self.resolved(path)
    return allowed.contains { prefix in
      Self.covers(prefix, path) && Self.covers(Self.resolved(prefix), real)
    }
  }

  /// `path` with the links of its existing part followed; what does not exist yet stays as it is.
  static func resolved(_ path: String) -> String {
    var existing = path
    var missing: [Substring] = []
    while !existing.isEmpty, existing != "/" {
      if let real = ImageFile.realPath(existing) {
        return ([real] + missing.reversed().map(String.init)).joined(separator: "/")
      }
      // A dangling link must not pass for a missing file: QEMU would follow it.
      if isLink(existing) { return "" }
      guard let slash = existing.lastIndex(of: "/") else { break }
      missing.append(existing[existing.index(after: slash)...][...])
      existing = String(existing[..<slash])
    }
    return "/" + missing.reversed().joined(separator: "/")
  }

  private static func isLink(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
  }
}
