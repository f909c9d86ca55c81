import Glibc

/// Reads another process's memory through `/proc/PID/mem`; needs the right to trace it (root has it).
public final class ProcessMemory: Sendable {
  private let descriptor: Descriptor
  private let pid: Int32

  /// Opens the memory; throws where the process is gone or may not be traced. Later reads are of
  /// the same memory, whoever gets the pid.
  public init(pid: Int32) throws(SystemError) {
    let raw = unsafe open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    guard raw >= 0 else { throw SystemError("open the memory of process \(pid)") }
    descriptor = Descriptor(owning: raw)
    self.pid = pid
  }

  /// Copies `buffer.count` bytes from `address` of that process.
  public func read(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer)
    throws(SystemError)
  {
    var done = 0
    while done < buffer.count {
      let place = address.addingReportingOverflow(UInt64(done))
      guard !place.overflow, let offset = off_t(exactly: place.partialValue) else {
        throw SystemError("read the memory of process \(pid) at \(address)", code: EFAULT)
      }
      // SAFETY: `done < buffer.count`, so `part` is the rest of a buffer that the caller keeps for the call.
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = unsafe pread(descriptor.raw, part.baseAddress, part.count, offset)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw SystemError("read the memory of process \(pid) at \(address)") }
      done += count
    }
  }
}
