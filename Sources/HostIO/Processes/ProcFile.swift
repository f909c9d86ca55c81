import Base
import Glibc

/// Bounded reading of `/proc`, whose files have no size and may vanish at any time.
public enum ProcFile {
  /// Longest content read unless said otherwise; the kernel bounds a command line at 2 MiB.
  public static let sizeMax = 4 << 20

  /// The file's bytes, at most `limit` of them; nil when it cannot be read.
  public static func bytes(_ path: String, limit: Int = sizeMax) -> [UInt8]? {
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard raw >= 0 else { return nil }
    let descriptor = Descriptor(owning: raw)
    var content: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while content.count < limit {
      let wanted = min(chunk.count, limit - content.count)
      // SAFETY: the buffer has at least `wanted` bytes and does not leave the closure.
      let count = unsafe chunk.withUnsafeMutableBytes { buffer in
        unsafe read(descriptor.raw, buffer.baseAddress, wanted)
      }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { return nil }
      guard count > 0 else { break }
      content.append(contentsOf: chunk[..<count])
    }
    return content
  }

  /// As `bytes`, with what isn't UTF-8 replaced.
  public static func text(_ path: String, limit: Int = sizeMax) -> String? {
    bytes(path, limit: limit).map { String(decoding: $0, as: UTF8.self) }
  }

  static func text(pid: Int32, _ name: String) -> String? { text("/proc/\(pid)/\(name)") }

  /// Pids of all processes that can be seen, ascending.
  public static func pids() -> [Int32] {
    names(in: "/proc").compactMap { Int32($0) }.filter { $0 > 0 }.sorted()
  }

  /// Arguments of a process, the program's own name first; nil when it is gone, empty for a zombie
  /// or a kernel thread.
  public static func arguments(pid: Int32) -> [String]? {
    guard let content = bytes("/proc/\(pid)/cmdline") else { return nil }
    var parts = content.split(separator: 0, omittingEmptySubsequences: false)
    if parts.last?.isEmpty == true { parts.removeLast() }
    return parts.map { String(decoding: $0, as: UTF8.self) }
  }

  /// Where a symbolic link leads, such as `exe` or `fd/3`; nil when it cannot be read.
  public static func link(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    // SAFETY: the length passed is the buffer's own.
    let count = unsafe buffer.withUnsafeMutableBytes { raw in
      unsafe raw.baseAddress.map { unsafe readlink(path, $0, raw.count) } ?? -1
    }
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// Entries of a directory in no order, at most `limit`.
  public static func names(in directory: String, limit: Int = 1 << 20) -> [String] {
    guard let stream = unsafe opendir(directory) else { return [] }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while names.count < limit, let entry = unsafe readdir(stream) {
      // SAFETY: d_name is NUL-terminated and copied before the next readdir.
      let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { raw in
        unsafe String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names
  }
}
