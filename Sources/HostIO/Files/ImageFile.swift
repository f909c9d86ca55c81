import CLinux
import Glibc

/// A disk image that is only read, while others may write to it: a file or a block device.
public final class ImageFile: Sendable {
  /// What `stat` says, by which a change may be seen. Times are in nanoseconds since 1970; a device has none.
  public struct State: Sendable, Hashable {
    public let byteCount, modifiedNs, changedNs, inode, device: UInt64
  }

  public let path: String
  public let isDevice: Bool
  private let descriptor: Descriptor

  /// Opens for reading, and takes no lock. Throws `EINVAL` where the path is neither a file nor a
  /// block device.
  public init(path: String) throws(SystemError) {
    // Not to wait where the path names a pipe.
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard raw >= 0 else { throw SystemError("open \(path)") }
    descriptor = Descriptor(owning: raw)
    self.path = path
    var status = stat()
    guard unsafe fstat(raw, &status) == 0 else { throw SystemError("look at \(path)") }
    let kind = status.st_mode & S_IFMT
    guard kind == S_IFREG || kind == S_IFBLK else {
      throw SystemError("\(path) is neither a file nor a block device", code: EINVAL)
    }
    isDevice = kind == S_IFBLK
  }

  /// As it is now.
  public func state() throws(SystemError) -> State {
    var status = stat()
    guard unsafe fstat(descriptor.raw, &status) == 0 else {
      throw SystemError("look at \(path)")
    }
    if isDevice {
      let end = lseek(descriptor.raw, 0, SEEK_END)
      guard end >= 0 else { throw SystemError("size of \(path)") }
      return State(
        byteCount: UInt64(end), modifiedNs: 0, changedNs: 0, inode: UInt64(status.st_rdev),
        device: UInt64(status.st_dev))
    }
    func nanoseconds(_ time: timespec) -> UInt64 {
      UInt64(clamping: time.tv_sec).multipliedReportingOverflow(by: 1_000_000_000).partialValue
        &+ UInt64(clamping: time.tv_nsec)
    }
    return State(
      byteCount: UInt64(clamping: status.st_size), modifiedNs: nanoseconds(status.st_mtim),
      changedNs: nanoseconds(status.st_ctim), inode: UInt64(status.st_ino),
      device: UInt64(status.st_dev))
  }

  /// Fills `target` from `offset` on, as far as the file goes; how many bytes that were.
  public func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(SystemError) -> Int {
    guard let start = off_t(exactly: offset) else {
      throw SystemError("read \(path)", code: EINVAL)
    }
    var done = 0
    while done < target.count {
      // SAFETY: the rest of the caller's buffer, which stays for the call.
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...])
      let count = unsafe pread(descriptor.raw, rest.baseAddress, rest.count, start + off_t(done))
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw SystemError("read \(path)") }
      if count == 0 { break }
      done += count
    }
    return done
  }

  /// The next bytes from `offset` on that are not in a hole; nil: nothing but holes follows. Where the file system
  /// can't tell, everything counts as data.
  public func nextData(from offset: UInt64, end: UInt64) -> Range<UInt64>? {
    guard offset < end else { return nil }
    guard !isDevice else { return offset..<end }
    let data = godwit_seek_data(descriptor.raw, off_t(offset), 0)
    if data < 0 { return errno == ENXIO ? nil : offset..<end }
    let start = UInt64(data)
    guard start < end else { return nil }
    let hole = godwit_seek_data(descriptor.raw, data, 1)
    return start..<(hole > data ? min(UInt64(hole), end) : end)
  }

  /// The bytes are about to be read: several such calls let the disk read many at once.
  public func willNeed(at offset: UInt64, count: Int) {
    _ = posix_fadvise(descriptor.raw, off_t(offset), off_t(count), Int32(POSIX_FADV_WILLNEED))
  }

  /// The whole file is about to be read in order.
  public func readsInOrder() {
    _ = posix_fadvise(descriptor.raw, 0, 0, Int32(POSIX_FADV_SEQUENTIAL))
  }
}

extension ImageFile {
  /// The one name of a file, with every symbolic link followed; nil when there is no such file.
  public static func realPath(_ path: String) -> String? {
    guard let real = unsafe realpath(path, nil) else { return nil }
    defer { unsafe free(real) }
    // SAFETY: realpath returns a NUL-terminated string of its own, copied here.
    return unsafe String(cString: real)
  }
}
