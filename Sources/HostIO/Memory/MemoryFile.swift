import CLinux
import Glibc

/// A memfd of our own, for tests and for the lab.
public final class MemoryFile: Sendable {
  private let descriptor: Descriptor

  /// - Parameter sealed: forbid shrinking, as QEMU's memory-backend-memfd does.
  public init(byteCount: Int, sealed: Bool) throws(SystemError) {
    let raw = unsafe godwit_memfd_create("godwit", 3)  // MFD_CLOEXEC | MFD_ALLOW_SEALING
    guard raw >= 0 else { throw SystemError("create a memfd") }
    descriptor = Descriptor(owning: raw)
    guard ftruncate(raw, byteCount) == 0 else { throw SystemError("size a memfd") }
    if sealed, godwit_seal_shrink(raw) != 0 { throw SystemError("seal a memfd") }
  }

  /// Where this process (and root) can open it.
  public var path: String { "/proc/\(getpid())/fd/\(descriptor.raw)" }
}
