import Glibc

/// Which pages of another process exist: `/proc/PID/pagemap` (proc(5)). Reading a page that doesn't would
/// make the kernel find one.
public final class PresentPages: Sendable {
  private let descriptor: Descriptor
  private let pid: Int32
  /// Of the host, in bytes.
  private let pageSize: UInt64

  /// Opens the map; throws where the process is gone or may not be looked into. Later looks are at
  /// the same memory, whoever gets the pid.
  public init(pid: Int32) throws(SystemError) {
    let raw = unsafe open("/proc/\(pid)/pagemap", O_RDONLY | O_CLOEXEC)
    guard raw >= 0 else { throw SystemError("open the page map of process \(pid)") }
    descriptor = Descriptor(owning: raw)
    self.pid = pid
    pageSize = UInt64(max(sysconf(Int32(_SC_PAGESIZE)), 1))
  }

  /// Whether the page at `address` is in memory or swapped out.
  public func contains(_ address: UInt64) throws(SystemError) -> Bool {
    var entry: UInt64 = 0
    let size = MemoryLayout<UInt64>.size
    let offset = off_t(clamping: address / pageSize * UInt64(size))
    while true {
      // SAFETY: the kernel writes at most the 8 bytes of `entry`, which lives for the call.
      let count = unsafe withUnsafeMutableBytes(of: &entry) {
        unsafe pread(descriptor.raw, $0.baseAddress, size, offset)
      }
      if count < 0, errno == EINTR { continue }
      guard count == size else { throw SystemError("read the page map of process \(pid)") }
      // Bit 63: in memory; bit 62: swapped out.
      return entry >> 62 != 0
    }
  }
}
