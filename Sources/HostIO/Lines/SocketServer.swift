import Glibc

extension ProcessIdentity {
  /// The process that listens on the unix socket at `path`; nil when nobody does, when it cannot be
  /// seen from here, or when its queue is full. Connects and closes; says nothing.
  public init?(servingUnixSocket path: String) {
    let bytes = Array(path.utf8)
    guard bytes.count <= UnixLineTransport.pathLengthMax, !bytes.contains(0) else { return nil }
    let raw = socket(
      AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard raw >= 0 else { return nil }
    let descriptor = Descriptor(owning: raw)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
    // SAFETY: the address lives through the call and the length is its own.
    let result = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe connect(descriptor.raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { return nil }
    // `struct ucred` of socket(7): pid, uid, gid. The pid is that of whoever called listen(2).
    var credentials: (pid: Int32, uid: UInt32, gid: UInt32) = (0, 0, 0)
    var length = socklen_t(MemoryLayout.size(ofValue: credentials))
    // SAFETY: the kernel writes at most `length` bytes; every bit pattern is valid.
    let found = unsafe getsockopt(
      descriptor.raw, SOL_SOCKET, SO_PEERCRED, &credentials, &length)
    guard found == 0, credentials.pid > 0 else { return nil }
    self.init(pid: credentials.pid)
  }
}
