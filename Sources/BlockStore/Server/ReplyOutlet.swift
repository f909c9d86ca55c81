import Glibc
import HostIO
import Synchronization

/// Sends answers from several threads, each as a whole. After a failure it takes and drops everything.
final class ReplyOutlet: Sendable {
  private let connection: any ByteConnection
  private let isBroken = Mutex(false)

  init(_ connection: any ByteConnection) { self.connection = connection }

  /// Sends an answer that has no data.
  func send(header: [UInt8]) {
    unsafe send(header, UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// Sends a header and the data that belong to it.
  func send(_ header: [UInt8], _ data: UnsafeRawBufferPointer) {
    isBroken.withLock { isBroken in
      guard !isBroken else { return }
      // SAFETY: the parts live for the call, which only reads them.
      unsafe header.withUnsafeBytes { raw in
        var parts = unsafe [
          iovec(iov_base: UnsafeMutableRawPointer(mutating: raw.baseAddress), iov_len: raw.count)
        ]
        unsafe parts.append(
          iovec(iov_base: UnsafeMutableRawPointer(mutating: data.baseAddress), iov_len: data.count))
        isBroken = unsafe !write(&parts)
      }
    }
  }

  /// Sends the first `count` bytes of a buffer.
  func send(_ buffer: PageBuffer, count: Int) {
    isBroken.withLock { isBroken in
      guard !isBroken, count > 0 else { return }
      // SAFETY: the part lives for the call.
      var parts = unsafe [iovec(iov_base: buffer.part(0, count).baseAddress, iov_len: count)]
      isBroken = unsafe !write(&parts)
    }
  }

  /// Nothing can be sent any more: a part of an answer is missing.
  func fail() {
    isBroken.withLock { $0 = true }
    connection.shutdown()
  }

  private func write(_ parts: inout [iovec]) -> Bool {
    do {
      try unsafe connection.writeAll(&parts)
      return true
    } catch {
      connection.shutdown()
      return false
    }
  }
}
