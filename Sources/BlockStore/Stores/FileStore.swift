import Base
import CLinux
import Glibc
public import HostIO
public import NBD
import Synchronization

/// A raw image: a file or a block device.
public final class FileStore: DiskStore {
  /// How an image is opened.
  public struct Options: Sendable, Hashable {
    public var isReadOnly = false
    /// Past the page cache.
    public var isDirect = false
    /// Opens an image that another program has open; for taking a running guest's disk over.
    public var isInUse = false
    public init() {}
  }

  public let byteCount: UInt64
  public let traits: DiskTraits
  private let descriptor: Descriptor
  private let isFile: Bool
  /// After a failed flush the kernel has forgotten which writes it lost, so no later flush may succeed.
  private let hasLost = Atomic(false)
  /// Whether the file system can tell what is in memory; found out by asking.
  private let tellsAtOnce = Atomic(true)

  /// Opens the image and, unless `isInUse`, locks it as QEMU would; blocks. Throws `EBUSY` where
  /// another program has it, `EINVAL` where it is neither a file nor a block device, or where
  /// `isDirect` meets a size that is no multiple of 4096 bytes. The size is that of now, for good.
  public init(path: String, _ options: Options = Options()) throws(SystemError) {
    var flags = (options.isReadOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC
    if options.isDirect { flags |= godwit_open_direct() }
    let raw = unsafe open(path, flags)
    guard raw >= 0 else { throw SystemError("open \(path)") }
    descriptor = Descriptor(owning: raw)
    var status = stat()
    guard unsafe fstat(raw, &status) == 0 else { throw SystemError("stat \(path)") }
    let kind = status.st_mode & S_IFMT
    guard kind == S_IFREG || kind == S_IFBLK else {
      throw SystemError("\(path) is neither a file nor a block device", code: EINVAL)
    }
    isFile = kind == S_IFREG
    if !options.isInUse, let problem = ImageLock.take(raw, readOnly: options.isReadOnly) {
      ImageLock.free(raw)
      throw SystemError("serve \(path): \(problem)", code: EBUSY)
    }
    let end = lseek(raw, 0, SEEK_END)
    guard end >= 0 else { throw SystemError("size of \(path)") }
    byteCount = UInt64(end)
    var traits = DiskTraits()
    traits.isReadOnly = options.isReadOnly
    traits.isPrompt = !options.isDirect
    if options.isDirect {
      guard byteCount.isMultiple(of: UInt64(Page.size)),
        let sizes = BlockSizes(minimum: UInt32(Page.size), preferred: 65536, maximum: 32 << 20)
      else {
        throw SystemError("\(path) is no multiple of 4096 bytes, as --direct needs", code: EINVAL)
      }
      traits.blockSizes = sizes
    }
    self.traits = traits
  }

  deinit { ImageLock.free(descriptor.raw) }

  /// What tells a file or device of this host from all others: kind, and the numbers the kernel has for it.
  public static func identity(of path: String) throws(SystemError) -> String {
    var status = Glibc.stat()
    guard unsafe stat(path, &status) == 0 else { throw SystemError("look at \(path)") }
    if status.st_mode & S_IFMT == S_IFBLK { return "device \(status.st_rdev)" }
    return "file \(status.st_dev):\(status.st_ino)"
  }

  public func read(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) throws(StoreError) {
    var done = 0
    while done < target.count {
      // SAFETY: the rest of the caller's buffer, which stays for the call.
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...])
      let count = unsafe pread(
        descriptor.raw, rest.baseAddress, rest.count, off_t(offset) + off_t(done))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw failure("read", count == 0 ? EIO : errno) }
      done += count
    }
  }

  public func readAtOnce(
    at offset: UInt64, into target: UnsafeMutableRawBufferPointer
  ) -> Bool? {
    guard tellsAtOnce.load(ordering: .relaxed) else { return nil }
    // SAFETY: the caller's buffer stays for the call.
    let count = unsafe godwit_read_at_once(
      descriptor.raw, target.baseAddress, UInt(target.count), off_t(offset))
    if count == target.count { return true }
    if count < 0, errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL {
      tellsAtOnce.store(false, ordering: .relaxed)
      return nil
    }
    return false
  }

  public func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    var done = 0
    while done < bytes.count {
      // SAFETY: the rest of the caller's buffer, which stays for the call.
      let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
      let place = off_t(offset) + off_t(done)
      let count =
        durable
        ? unsafe godwit_write_durably(descriptor.raw, rest.baseAddress, UInt(rest.count), place)
        : unsafe pwrite(descriptor.raw, rest.baseAddress, rest.count, place)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let code = count == 0 ? EIO : errno
        // Else it may have learned of an earlier write's loss.
        if durable, unsafe !Self.isWithoutRoom(code) || writes(rest, at: place) {
          hasLost.store(true, ordering: .releasing)
        }
        throw failure("write", code)
      }
      done += count
    }
    if durable, hasLost.load(ordering: .acquiring) { throw lost }
  }

  /// There was no room for the data: nothing was written, and nothing is lost.
  private static func isWithoutRoom(_ code: Int32) -> Bool {
    code == ENOSPC || code == EDQUOT || code == EFBIG
  }

  /// Whether the data can be written at all, in memory: then what failed was putting them, or others, on the disk.
  private func writes(_ bytes: UnsafeRawBufferPointer, at place: off_t) -> Bool {
    unsafe pwrite(descriptor.raw, bytes.baseAddress, bytes.count, place) > 0
  }

  public func flush() throws(StoreError) {
    while fdatasync(descriptor.raw) != 0 {
      if errno == EINTR { continue }
      // A read-only device has nothing to flush.
      if traits.isReadOnly, errno == EROFS || errno == EINVAL { return }
      let code = errno
      hasLost.store(true, ordering: .releasing)
      throw failure("flush", code)
    }
    if hasLost.load(ordering: .acquiring) { throw lost }
  }

  public func zero(
    at offset: UInt64, count: UInt64, _ options: ZeroOptions
  ) throws(StoreError) {
    let keepsSpace = options.contains(.keepsSpace)
    while godwit_zero_range(descriptor.raw, off_t(offset), off_t(count), keepsSpace ? 1 : 0) != 0 {
      if errno == EINTR { continue }
      guard errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV || errno == EINVAL else {
        throw failure("zero", errno)
      }
      guard !options.contains(.fast) else {
        throw StoreError(.notSupported, "zeros would have to be written")
      }
      try writeZeros(at: offset, count: count)
      break
    }
    if options.contains(.durable) { try flush() }
  }

  private static let zeros = PageBuffer.zeroed(byteCount: 1 << 20)

  private func writeZeros(at offset: UInt64, count: UInt64) throws(StoreError) {
    var done: UInt64 = 0
    while done < count {
      let part = Int(min(count - done, UInt64(Self.zeros.byteCount)))
      // SAFETY: the buffer is never written to again.
      let bytes = unsafe UnsafeRawBufferPointer(Self.zeros.part(0, part))
      try unsafe write(bytes, at: offset + done, durable: false)
      done += UInt64(part)
    }
  }

  public func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    while godwit_zero_range(descriptor.raw, off_t(offset), off_t(count), 0) != 0 {
      if errno == EINTR { continue }
      // It was a hint.
      if errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV || errno == EINVAL { return }
      throw failure("trim", errno)
    }
  }

  public func cache(at offset: UInt64, count: UInt64) {
    _ = posix_fadvise(descriptor.raw, off_t(offset), off_t(count), Int32(POSIX_FADV_WILLNEED))
  }

  public func forget(at offset: UInt64, count: UInt64) {
    _ = posix_fadvise(descriptor.raw, off_t(offset), off_t(count), Int32(POSIX_FADV_DONTNEED))
  }

  public func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    let end = offset + count
    guard isFile else { return [NBDExtent(length: count, flags: 0)] }
    var (extents, place): ([NBDExtent], UInt64) = ([], offset)
    while place < end, extents.count < extentsMax {
      let data = seek(place, wantsHole: false, end)
      NBDExtent.append(
        NBDExtent(length: data - place, flags: NBDExtent.hole | NBDExtent.zero), to: &extents)
      guard data < end, extents.count < extentsMax else { break }
      place = max(seek(data, wantsHole: true, end), data + 1)
      NBDExtent.append(NBDExtent(length: place - data, flags: 0), to: &extents)
    }
    return extents
  }

  /// Where the next data or hole begins, `end` at most.
  private func seek(_ place: UInt64, wantsHole: Bool, _ end: UInt64) -> UInt64 {
    let found = godwit_seek_data(descriptor.raw, off_t(place), wantsHole ? 1 : 0)
    if found >= 0 { return min(max(UInt64(found), place), end) }
    // No data any more; any other error: the file system can't tell, so it all counts as data.
    if wantsHole || errno == ENXIO { return end }
    return place
  }

  private var lost: StoreError {
    StoreError(.inputOutput, "an earlier flush failed: writes before it may be lost")
  }

  private func failure(_ what: String, _ code: Int32) -> StoreError {
    StoreError(NBDError(errno: code), SystemError(what, code: code).description)
  }
}
