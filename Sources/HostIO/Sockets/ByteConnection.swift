import Base
public import Glibc

/// A connected, ordered stream of bytes for blocking use: one thread reads, one writes.
///
/// Plain sockets and encrypted connections are used alike. `shutdown` may be called from any thread
/// and wakes a blocked reader or writer.
public protocol ByteConnection: AnyObject, Sendable {
  /// What is at the other end, for messages.
  var peer: String { get }

  /// Ends both directions; blocked calls return. Safe to repeat.
  func shutdown()

  /// Ends the connection like `shutdown`, and sees what was written off: a process may end after
  /// this. May block for a moment.
  func finish()

  /// Reads at most `buffer.count` bytes; 0 at end of stream.
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int

  /// Writes all bytes of all parts; `parts` is used up as scratch space.
  func writeAll(_ parts: inout [iovec]) throws(SystemError)

  /// Bounds how long a blocked read or write may take, in milliseconds; 0: for ever.
  func setTimeout(ms: UInt64)
}

extension ByteConnection {
  public func finish() { shutdown() }

  /// Reads exactly `buffer.count` bytes; false when the stream ended before the first of them.
  public func readFully(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Bool {
    var done = 0
    while done < buffer.count {
      let count = try unsafe read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[done...]))
      if count == 0 {
        if done == 0 { return false }
        throw SystemError("read from \(peer) (ended inside a frame)", code: ECONNRESET)
      }
      done += count
    }
    return true
  }

  /// Writes all of `bytes`.
  public func writeAll(_ bytes: RawSpan) throws(SystemError) {
    guard bytes.byteCount > 0 else { return }
    try unsafe bytes.withUnsafeBytes { raw throws(SystemError) in
      // SAFETY: writev only reads; the parts do not outlive the closure.
      var parts = unsafe [
        iovec(iov_base: UnsafeMutableRawPointer(mutating: raw.baseAddress), iov_len: raw.count)
      ]
      try unsafe writeAll(&parts)
    }
  }
}
