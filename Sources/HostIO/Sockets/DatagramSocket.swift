import Glibc

/// Sends datagrams to one unix socket, without ever waiting: a reader that is behind loses them.
public final class DatagramSocket: Sendable {
  private let descriptor: Descriptor

  /// - Parameter path: of the receiver; one that begins with `@` is in the abstract name space.
  public init(to path: String) throws(SystemError) {
    let bytes = Array(path.utf8)
    guard (1...UnixSocket.pathLengthMax).contains(bytes.count), !bytes.contains(0) else {
      throw SystemError("\(path) is no path of a socket", code: EINVAL)
    }
    let kind = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let raw = socket(AF_UNIX, kind, 0)
    guard raw >= 0 else { throw SystemError("socket for \(path)") }
    descriptor = Descriptor(owning: raw)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    // SAFETY: at most 107 of 108 bytes; the rest stays zero, so a path is terminated.
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
    if bytes[0] == UInt8(ascii: "@") { address.sun_path.0 = 0 }
    // The length of an abstract name counts; a path ends at its zero byte.
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    // SAFETY: `length` is within the address, which lives for the call.
    let result = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe connect(raw, $0, length)
      }
    }
    guard result == 0 else { throw SystemError("connect to \(path)") }
  }

  /// Whether the receiver has it.
  public func send(_ bytes: [UInt8]) -> Bool {
    // SAFETY: the buffer lives for the call, and its own count bounds it.
    let sent = unsafe bytes.withUnsafeBytes {
      unsafe Glibc.send(
        descriptor.raw, $0.baseAddress, $0.count,
        Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
    }
    return sent == bytes.count
  }
}
