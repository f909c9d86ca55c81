import Glibc
import Synchronization

/// Unix stream sockets by path.
public enum UnixSocket {
  /// Longest path that fits a socket address, in bytes.
  public static let pathLengthMax = 107
  /// The mask is the whole process's: of two who change it at once, one would leave the other's for good.
  private static let masking = Mutex(())

  /// Listens on `path` (replacing a stale socket file) with mode 0600 for the file's owner.
  public static func listen(path: String) throws(SystemError) -> ListeningSocket {
    let raw = try open(for: path)
    let listener = ListeningSocket(owning: raw, name: path, unlinkPath: path)
    _ = unsafe unlink(path)
    let bound = try masking.withLock { _ throws(SystemError) -> Int32 in
      let mask = umask(0o077)
      defer { umask(mask) }
      return try unsafe withAddress(path) { unsafe bind(raw, $0, $1) }
    }
    guard bound == 0 else { throw SystemError("bind \(path)") }
    guard Glibc.listen(raw, 16) == 0 else { throw SystemError("listen on \(path)") }
    return listener
  }

  /// - Parameter timeoutMs: for a listener that takes nobody in, and for each read and write, in milliseconds; 0: none.
  public static func connect(
    path: String, timeoutMs: UInt64 = 0
  ) throws(SystemError) -> StreamSocket {
    let raw = try open(for: path)
    let socket = StreamSocket(owning: raw, peer: path)
    if timeoutMs > 0 { socket.setTimeout(ms: timeoutMs) }
    let result = try unsafe withAddress(path) { unsafe Glibc.connect(raw, $0, $1) }
    guard result == 0 else { throw SystemError("connect to \(path)") }
    return socket
  }

  /// Two sockets that are connected with each other.
  static func pair(_ name: String) throws(SystemError) -> (StreamSocket, StreamSocket) {
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    // SAFETY: socketpair writes two descriptors, and the array holds two.
    guard unsafe socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
      throw SystemError("make a connection for \(name)")
    }
    return (StreamSocket(owning: ends[0], peer: name), StreamSocket(owning: ends[1], peer: name))
  }

  /// Lets the user of process `pid` connect to the socket at `path`, where that is not our own: a
  /// manager often runs QEMU unprivileged. The folder becomes searchable; the socket's own mode is
  /// what guards it.
  public static func admit(pid: Int32, to path: String, in directory: String) throws(SystemError) {
    try admit(ownerOf: "/proc/\(pid)", to: path, in: directory)
  }

  /// The same for the user whose file is at `other`.
  public static func admit(
    ownerOf other: String, to path: String, in directory: String
  ) throws(SystemError) {
    var status = stat()
    guard unsafe stat(other, &status) == 0 else { throw SystemError("look at \(other)") }
    guard status.st_uid != geteuid() else { return }
    guard unsafe chmod(directory, 0o711) == 0, unsafe chown(path, status.st_uid, .max) == 0 else {
      throw SystemError("let user \(status.st_uid) connect to \(path)")
    }
  }

  private static func open(for path: String) throws(SystemError) -> Int32 {
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let raw = socket(AF_UNIX, kind, 0)
    guard raw >= 0 else { throw SystemError("socket for \(path)") }
    return raw
  }

  private static func withAddress(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws(SystemError) -> Int32 {
    guard path.utf8.count <= pathLengthMax else {
      throw SystemError("\(path) (over \(pathLengthMax) bytes)", code: ENAMETOOLONG)
    }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { target in
      // SAFETY: at most 107 of 108 bytes; the rest stays zero, so the path is terminated.
      for (index, byte) in path.utf8.enumerated() { unsafe target[index] = byte }
    }
    return unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }
}
