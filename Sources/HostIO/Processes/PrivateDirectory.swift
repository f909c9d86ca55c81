import Base
import Glibc

/// Folders that only their owner may enter.
public enum PrivateDirectory {
  /// Makes `path` with mode 0700, missing parents with 0755; an existing one must be a real folder of ours that
  /// nobody else may write to.
  public static func make(_ path: String) throws(SystemError) {
    if unsafe mkdir(path, 0o700) == 0 { return }
    if errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      makeParents(String(path[..<slash]))
      if unsafe mkdir(path, 0o700) == 0 { return }
    }
    guard errno == EEXIST else {
      let code = errno
      throw SystemError("make the folder \(path)", code: code)
    }
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { throw SystemError("look at the folder \(path)") }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw SystemError("use \(path) as a folder", code: ENOTDIR)
    }
    guard status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
      throw SystemError(
        "use the folder \(path), which others own or may write to (chown and chmod 0700 it)",
        code: EPERM)
    }
  }
}

extension PrivateDirectory {
  /// What fails here shows when the folder itself is made.
  private static func makeParents(_ path: String) {
    var end = path.startIndex
    while end < path.endIndex {
      end = path[path.index(after: end)...].firstIndex(of: "/") ?? path.endIndex
      _ = unsafe mkdir(String(path[..<end]), 0o755)
    }
  }
}

/// The end of a file that somebody else still writes.
public enum LogTail {
  /// At most the last `byteCount` bytes; nil when the file cannot be read.
  public static func read(_ path: String, byteCount: Int) -> String? {
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard raw >= 0 else { return nil }
    let descriptor = Descriptor(owning: raw)
    let size = lseek(descriptor.raw, 0, SEEK_END)
    guard size >= 0 else { return nil }
    var bytes = [UInt8](repeating: 0, count: min(byteCount, Int(size)))
    // SAFETY: the count passed is the buffer's own.
    let count = unsafe bytes.withUnsafeMutableBytes { buffer in
      unsafe pread(descriptor.raw, buffer.baseAddress, buffer.count, size - off_t(buffer.count))
    }
    return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
  }
}
