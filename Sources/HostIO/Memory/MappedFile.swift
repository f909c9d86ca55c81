import Glibc

/// A file's bytes in memory, read-only; the kernel reads what is looked at.
///
/// Reading a mapping of a file that somebody made shorter kills the process: only for files of the agent's own
/// folders, which are never changed but replaced.
@safe
public final class MappedFile: @unchecked Sendable {
  // Unchecked: nobody writes, and the mapping ends with the object.
  private let base: UnsafeMutableRawPointer
  public let byteCount: Int

  /// - Parameter bytesMax: a larger file is refused, and so is an empty one.
  public init(path: String, bytesMax: Int) throws(SystemError) {
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard raw >= 0 else { throw SystemError("open \(path)") }
    defer { close(raw) }
    var status = stat()
    guard unsafe fstat(raw, &status) == 0 else { throw SystemError("look at \(path)") }
    guard status.st_mode & S_IFMT == S_IFREG, status.st_size > 0, status.st_size <= bytesMax else {
      throw SystemError("map \(path) of \(status.st_size) bytes", code: EINVAL)
    }
    byteCount = Int(status.st_size)
    let address = unsafe mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, raw, 0)
    guard unsafe address != MAP_FAILED, let mapped = unsafe address else {
      throw SystemError("map \(path)")
    }
    unsafe base = mapped
  }

  deinit { _ = unsafe munmap(base, byteCount) }

  /// Borrows all bytes.
  @_lifetime(borrow self)
  public func span() -> RawSpan {
    // SAFETY: the mapping has that many bytes and lives as long as self.
    let span = unsafe RawSpan(_unsafeStart: UnsafeRawPointer(base), byteCount: byteCount)
    return unsafe _overrideLifetime(span, borrowing: self)
  }
}
