import Base
public import Glibc

/// Owns a file descriptor and closes it once.
public struct Descriptor: ~Copyable, Sendable {
  public let raw: Int32

  /// Takes ownership of an open descriptor.
  public init(owning raw: Int32) { self.raw = raw }

  deinit { _ = Glibc.close(raw) }
}

/// A connected stream socket for blocking use on threads of their own.
///
/// `shutdown` may be called from any thread and wakes a blocked reader or writer; the descriptor
/// itself is closed when the last reference goes, so it is never recycled under a running call.
public final class StreamSocket: ByteConnection {
  private let descriptor: Descriptor
  /// What is at the other end, for messages.
  public let peer: String

  /// Takes ownership of a connected socket.
  public init(owning raw: Int32, peer: String) {
    descriptor = Descriptor(owning: raw)
    self.peer = peer
  }

  /// For system calls while this is alive; whoever closes it breaks the socket.
  public var raw: Int32 { descriptor.raw }

  /// Ends both directions; blocked calls return. Safe to repeat.
  public func shutdown() { _ = Glibc.shutdown(raw, Int32(SHUT_RDWR)) }

  /// Lets a reader see the end of the stream behind what has arrived; writing goes on.
  public func shutdownReading() { _ = Glibc.shutdown(raw, Int32(SHUT_RD)) }

  /// Whether the end of the socket, also with its process, takes back what was written and the other end's system hasn't
  /// yet; otherwise that is sent for minutes, as long as the network lets nothing through. On a unix socket all of it is
  /// there at once.
  public func setAbortive(_ isSo: Bool) {
    var value = linger(l_onoff: isSo ? 1 : 0, l_linger: 0)
    _ = unsafe setsockopt(
      raw, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
  }

  /// Longest wait for blocked calls to return, in milliseconds.
  private static let abortTriesMax = 100

  /// Ends both directions, and takes back what was written and the other end's system hasn't yet: when this returns
  /// nothing of it is sent any more, whoever else has the socket open. Safe to repeat.
  public func abort() {
    shutdown()
    setAbortive(true)
    for _ in 0..<Self.abortTriesMax {
      // A connection to nowhere drops what the one before has left, and resets it.
      var nowhere = sockaddr()
      nowhere.sa_family = sa_family_t(AF_UNSPEC)
      // SAFETY: the address lives for the call, and its own size bounds it.
      let result = unsafe withUnsafePointer(to: nowhere) {
        unsafe Glibc.connect(raw, $0, socklen_t(MemoryLayout<sockaddr>.size))
      }
      // Some kernels wait until nobody is in a call any more; `shutdown` has woken them.
      guard result != 0, errno == EBUSY else { return }
      MonotonicClock.sleep(us: 1000)
    }
  }

  /// Reads at most `buffer.count` bytes; 0 at end of stream.
  public func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
    while true {
      let count = unsafe Glibc.read(raw, buffer.baseAddress, buffer.count)
      if count >= 0 { return count }
      if errno == EAGAIN { throw SystemError("read from \(peer) (silent)", code: ETIMEDOUT) }
      if errno != EINTR { throw SystemError("read from \(peer)") }
    }
  }

  /// Reads what has arrived, without waiting: nil when that is nothing, 0 at end of stream.
  public func readArrived(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int? {
    while true {
      let count = unsafe recv(raw, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
      if count >= 0 { return count }
      if errno == EAGAIN { return nil }
      if errno != EINTR { throw SystemError("read from \(peer)") }
    }
  }

  /// The next byte, which stays to be read; nil at end of stream.
  public func peekByte() throws(SystemError) -> UInt8? {
    while true {
      var byte: UInt8 = 0
      let count = unsafe recv(raw, &byte, 1, Int32(MSG_PEEK))
      if count >= 0 { return count == 0 ? nil : byte }
      if errno == EAGAIN { throw SystemError("read from \(peer) (silent)", code: ETIMEDOUT) }
      if errno != EINTR { throw SystemError("read from \(peer)") }
    }
  }

  /// Whether the other end is on this machine: a loopback address, or a socket that has none.
  public var isLoopback: Bool {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    // SAFETY: the kernel writes at most `length` bytes, the size of `storage`; any address fits it.
    let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe getpeername(raw, $0, &length)
      }
    }
    guard result == 0 else { return false }
    guard let name = TCPSocket.name(of: storage, length: length),
      let host = TCPSocket.split(name, defaultPort: 0)?.host
    else { return storage.ss_family == sa_family_t(AF_UNIX) }
    return TCPSocket.isLoopback(host)
  }

  /// Writes all bytes of all parts; `parts` is used up as scratch space.
  public func writeAll(_ parts: inout [iovec]) throws(SystemError) {
    var first = 0
    while unsafe first < parts.count {
      if unsafe parts[first].iov_len == 0 {
        first += 1
        continue
      }
      let batch = unsafe min(parts.count - first, 1024)
      let sent = unsafe parts.withUnsafeMutableBufferPointer { pointer in
        var message = unsafe msghdr()
        // SAFETY: first + batch <= count, so the kernel reads parts that are there.
        unsafe message.msg_iov = pointer.baseAddress.map { unsafe $0 + first }
        unsafe message.msg_iovlen = batch
        // A peer that is gone is an error here, not a SIGPIPE for the whole process.
        return unsafe sendmsg(raw, &message, Int32(MSG_NOSIGNAL))
      }
      if sent < 0 {
        if errno == EINTR { continue }
        throw SystemError("write to \(peer)")
      }
      var left = sent
      while left > 0 {
        let length = unsafe parts[first].iov_len
        if left >= length {
          left -= length
          first += 1
        } else {
          unsafe parts[first].iov_base += left
          unsafe parts[first].iov_len -= left
          left = 0
        }
      }
    }
  }

  /// Bounds how long a blocked read or write may take, in milliseconds; 0: for ever.
  public func setTimeout(ms: UInt64) {
    var value = timeval(tv_sec: Int(ms / 1000), tv_usec: Int(ms % 1000 * 1000))
    let size = socklen_t(MemoryLayout<timeval>.size)
    _ = unsafe setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &value, size)
    _ = unsafe setsockopt(raw, SOL_SOCKET, SO_SNDTIMEO, &value, size)
  }

  /// Bounds what was written and the other end has not read, in bytes, about: a writer waits beyond that. The system has
  /// a least and a most of its own.
  public func setUnread(bytes: Int) {
    // The system doubles it, to have room for what it keeps of each piece.
    setOption(SOL_SOCKET, SO_SNDBUF, Int32(clamping: bytes / 2))
  }

  func setOption(_ level: Int32, _ name: Int32, _ value: Int32) {
    var value = value
    _ = unsafe setsockopt(raw, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
  }
}
