import CLinux
import Glibc

/// Files that are read in one go, with a bound: `/proc`, `/sys`, configuration.
public enum SmallFile {
  /// Whether this process may, by its real user; false also where nothing is there.
  public static func isReadable(_ path: String) -> Bool { unsafe access(path, R_OK) == 0 }
  /// Whether the path leads to anything that can be seen from here; a link to nothing doesn't.
  public static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }
  /// Whether this process may, by its real user; a folder that can be entered counts.
  public static func isExecutable(_ path: String) -> Bool { unsafe access(path, X_OK) == 0 }

  /// The whole file as text; an error when it is larger than `bytesMax`.
  public static func read(_ path: String, bytesMax: Int = 1 << 20) throws(SpawnError) -> String {
    String(decoding: try readBytes(path, bytesMax: bytesMax), as: UTF8.self)
  }

  /// The whole file; an error when it is larger than `bytesMax`. Blocks.
  public static func readBytes(_ path: String, bytesMax: Int) throws(SpawnError) -> [UInt8] {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure(path, "cannot open") }
    defer { close(file) }
    var bytes = [UInt8]()
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      // SAFETY: read gets the chunk's own size.
      let count = unsafe chunk.withUnsafeMutableBytes { buffer in
        unsafe Glibc.read(file, buffer.baseAddress, buffer.count)
      }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw failure(path, "cannot read") }
      if count == 0 { return bytes }
      guard bytes.count + count <= bytesMax else {
        throw SpawnError(program: path, detail: "is larger than \(bytesMax) bytes")
      }
      bytes += chunk[..<count]
    }
  }

  /// Writes a new file or replaces an old one, with the given mode.
  public static func write(
    _ bytes: some Sequence<UInt8>, to path: String, mode: UInt32 = 0o644
  ) throws(SpawnError) {
    let file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard file >= 0 else { throw failure(path, "cannot create") }
    defer { close(file) }
    let bytes = Array(bytes)
    var sent = 0
    while sent < bytes.count {
      // SAFETY: the slice's own address and size.
      let count = unsafe bytes[sent...].withUnsafeBytes { buffer in
        unsafe Glibc.write(file, buffer.baseAddress, buffer.count)
      }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw failure(path, "cannot write") }
      sent += count
    }
  }

  private static func failure(_ path: String, _ what: String) -> SpawnError {
    SpawnError(program: path, detail: "\(what): \(unsafe String(cString: strerror(errno)))")
  }
}
