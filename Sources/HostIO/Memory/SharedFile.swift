import Base
import CLinux
import Glibc

/// Guest RAM that lives in a memfd or file which QEMU shares (`share=on`).
///
/// A memfd that is sealed against shrinking is mapped. Anything else is read and written by system
/// calls: a mapping would turn somebody's truncation into a SIGBUS for the whole agent.
@safe
public final class SharedFile: @unchecked Sendable {
  // Unchecked: the mapping and the descriptor do not change; concurrent access to guest RAM is
  // ordered by the caller (barriers) at the destination and harmless at the source (dirty again).
  private let descriptor: Descriptor
  /// What `path` named, for messages.
  public let name: String
  /// First byte of the RAM block within the file, and its length.
  public let offset, length: UInt64
  private let mapping: UnsafeMutableRawPointer?
  /// `SEEK_DATA` of lseek(2), which the C library hides behind `_GNU_SOURCE`.
  private static let seekData: Int32 = 3

  /// Opens a shared RAM block.
  ///
  /// - Parameter path: the file, or `/proc/PID/fd/N` for a memfd.
  public init(path: String, offset: UInt64, length: UInt64, writable: Bool) throws(SystemError) {
    let raw = unsafe open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC)
    guard raw >= 0 else { throw SystemError("open guest memory \(path)") }
    descriptor = Descriptor(owning: raw)
    (name, self.offset, self.length) = (path, offset, length)
    var status = stat()
    guard unsafe fstat(raw, &status) == 0 else { throw SystemError("stat guest memory \(path)") }
    let end = offset.addingReportingOverflow(length)
    guard !end.overflow, end.partialValue <= UInt64(clamping: status.st_size), length > 0 else {
      throw SystemError("guest memory \(path) is smaller than its RAM block", code: EINVAL)
    }
    guard godwit_is_shrink_sealed(raw) == 1 else {
      unsafe mapping = nil
      return
    }
    let access = writable ? PROT_READ | PROT_WRITE : PROT_READ
    let address = unsafe mmap(nil, Int(length), access, MAP_SHARED, raw, off_t(offset))
    guard unsafe address != MAP_FAILED else { throw SystemError("map guest memory \(path)") }
    unsafe mapping = address
  }

  /// The block size of the file's file system, in bytes: that of its pages for huge ones, 4096 for others
  /// that hold guests' memory.
  public static func blockSize(path: String) throws(SystemError) -> UInt64 {
    var status = statvfs()
    guard unsafe statvfs(path, &status) == 0 else { throw SystemError("look at \(path)") }
    return UInt64(clamping: status.f_bsize)
  }

  deinit { if let mapping = unsafe mapping { _ = unsafe munmap(mapping, Int(length)) } }

  /// Whether the block is mapped; otherwise each access is a system call.
  public var isMapped: Bool { unsafe mapping != nil }

  /// Copies `[position, position + buffer.count)` of the block out.
  public func read(at position: UInt64, into buffer: UnsafeMutableRawBufferPointer)
    throws(SystemError)
  {
    try check(position, buffer.count)
    if let mapping = unsafe mapping {
      // SAFETY: in bounds by `check`; the file cannot shrink (sealed).
      unsafe buffer.copyMemory(
        from: UnsafeRawBufferPointer(start: mapping + Int(position), count: buffer.count))
      return
    }
    var done = 0
    while done < buffer.count {
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = unsafe pread(
        descriptor.raw, part.baseAddress, part.count, off_t(offset + position) + off_t(done))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw SystemError("read guest memory \(name)") }
      done += count
    }
  }

  /// Copies `bytes` into the block at `position`.
  public func write(_ bytes: UnsafeRawBufferPointer, at position: UInt64) throws(SystemError) {
    try check(position, bytes.count)
    if let mapping = unsafe mapping {
      guard let start = bytes.baseAddress else { return }
      // SAFETY: in bounds by `check`; the file cannot shrink (sealed).
      unsafe (mapping + Int(position)).copyMemory(from: start, byteCount: bytes.count)
      return
    }
    var done = 0
    while done < bytes.count {
      let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = unsafe pwrite(
        descriptor.raw, part.baseAddress, part.count, off_t(offset + position) + off_t(done))
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw SystemError("write guest memory \(name)") }
      done += count
    }
  }

  /// Whether the range may hold anything but zeros, asked without touching (allocating) it.
  ///
  /// A hole of the file reads as zeros; data may still be zeros.
  public func mayHoldData(at position: UInt64, count: Int) throws(SystemError) -> Bool {
    try check(position, count)
    let start = off_t(offset + position)
    let data = lseek(descriptor.raw, start, Self.seekData)
    if data < 0 { return errno != ENXIO }  // ENXIO: only a hole follows
    return data < start + off_t(count)
  }

  private func check(_ position: UInt64, _ count: Int) throws(SystemError) {
    guard position <= length, UInt64(count) <= length - position else {
      throw SystemError("access guest memory \(name) at \(position)", code: EFAULT)
    }
  }
}

extension SharedFile {
  /// The zero page that zero runs are written from when they cannot be punched.
  static let zeros = PageBuffer.zeroed(byteCount: 64 * Page.size)

  /// Makes `[position, position + count)` zero, without allocating what is a hole already.
  public func writeZeros(at position: UInt64, count: Int) throws(SystemError) {
    var done = 0
    while done < count {
      let part = min(count - done, Self.zeros.byteCount)
      let place = position + UInt64(done)
      if try mayHoldData(at: place, count: part) {
        try unsafe write(UnsafeRawBufferPointer(Self.zeros.part(0, part)), at: place)
      }
      done += part
    }
  }
}

extension PageBuffer {
  /// A buffer of zeros.
  public static func zeroed(byteCount: Int) -> PageBuffer {
    let buffer = PageBuffer(byteCount: byteCount)
    unsafe buffer.part(0, byteCount).initializeMemory(as: UInt8.self, repeating: 0)
    return buffer
  }
}
