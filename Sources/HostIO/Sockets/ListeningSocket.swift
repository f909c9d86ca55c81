import CLinux
import Glibc

/// Accepts connections on a thread of the caller's.
public final class ListeningSocket: Sendable {
  private let descriptor: Descriptor
  /// Address or path, for messages.
  public let name: String
  private let unlinkPath: String?

  init(owning raw: Int32, name: String, unlinkPath: String? = nil) {
    descriptor = Descriptor(owning: raw)
    (self.name, self.unlinkPath) = (name, unlinkPath)
  }

  deinit { if let unlinkPath { _ = unsafe unlink(unlinkPath) } }

  /// Takes over a socket that another program made and still holds: a service manager.
  public convenience init(inheriting raw: Int32) {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    // SAFETY: the kernel writes at most `length` bytes, the size of `storage`; any address fits it.
    let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe getsockname(raw, $0, &length)
      }
    }
    let name = result == 0 ? TCPSocket.name(of: storage, length: length) : nil
    self.init(owning: raw, name: name ?? "inherited socket \(raw)")
  }

  /// For system calls while this is alive; whoever closes it breaks the socket.
  public var raw: Int32 { descriptor.raw }

  /// Wakes a blocked `accept`, which then throws.
  public func shutdown() { _ = Glibc.shutdown(raw, Int32(SHUT_RDWR)) }

  /// Waits for a connection, at most `timeoutMs` milliseconds (nil: for ever); nil at the time-out.
  public func accept(timeoutMs: UInt64? = nil) throws(SystemError) -> StreamSocket? {
    while true {
      if let timeoutMs {
        var poller = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
        let ready = unsafe poll(&poller, 1, Int32(clamping: timeoutMs))
        if ready == 0 { return nil }
        if ready < 0, errno == EINTR { continue }
      }
      var storage = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let accepted = unsafe godwit_accept(raw, &storage, &length)
      if accepted < 0 {
        if errno == EINTR || errno == ECONNABORTED { continue }
        throw SystemError("accept on \(name)")
      }
      let peer = TCPSocket.name(of: storage, length: length) ?? name
      return StreamSocket(owning: accepted, peer: peer)
    }
  }
}
