import Glibc

/// A file that grows by whole records. Who is killed meanwhile leaves a torn one at its end, which readers find by
/// its checksum and cut off.
public final class RecordFile: Sendable {
  public let path: String
  private let descriptor: Descriptor

  /// Opens or makes the file, for its owner alone.
  public init(path: String) throws(SystemError) {
    let raw = unsafe open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard raw >= 0 else { throw SystemError("open \(path)") }
    descriptor = Descriptor(owning: raw)
    self.path = path
  }

  /// Bytes from `offset` on, fewer than `count` at the end of the file.
  public func read(at offset: UInt64, count: Int) throws(SystemError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      // SAFETY: the array's own bytes behind those that are filled.
      let got = unsafe bytes.withUnsafeMutableBytes { buffer in
        let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
        return unsafe pread(
          descriptor.raw, rest.baseAddress, rest.count, off_t(offset) + off_t(done))
      }
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { throw SystemError("read \(path)") }
      if got == 0 { break }
      done += got
    }
    bytes.removeLast(count - done)
    return bytes
  }

  /// Blocks until the kernel has taken all of the bytes; on disk they are after `flush`. What a
  /// call that throws has written stays at the end of the file.
  public func append(_ bytes: [UInt8]) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      // SAFETY: the array's own bytes behind those that are written.
      let put = unsafe bytes.withUnsafeBytes { buffer in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[done...])
        return unsafe write(descriptor.raw, rest.baseAddress, rest.count)
      }
      if put < 0, errno == EINTR { continue }
      guard put > 0 else { throw SystemError("write \(path)") }
      done += put
    }
  }

  /// Cuts off what is behind the first `byteCount` bytes.
  public func cut(to byteCount: UInt64) throws(SystemError) {
    while ftruncate(descriptor.raw, off_t(byteCount)) != 0 {
      guard errno == EINTR else { throw SystemError("shorten \(path)") }
    }
  }

  /// Everything that was written is on disk when this returns.
  public func flush() throws(SystemError) {
    while fdatasync(descriptor.raw) != 0 {
      guard errno == EINTR else { throw SystemError("flush \(path)") }
    }
  }

  /// Puts the file in the place of `other`, or of none.
  public func replace(_ other: String) throws(SystemError) {
    guard unsafe rename(path, other) == 0 else {
      throw SystemError("move \(path) to \(other)")
    }
  }

  /// Takes the file away; that there was none is no error.
  public static func remove(_ path: String) { _ = unsafe unlink(path) }
}
