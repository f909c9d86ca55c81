import Glibc
import HostIO

/// Sends answers from several threads, each as a whole. After a failure it takes and drops everything.
///
/// One thread writes at a time; others leave copies with it and go on. So a client that doesn't read its answers holds
/// one thread of the pool, and not all of them.
final class ReplyOutlet: Sendable {
  /// Bytes of answers that wait for the writing thread, beyond which a connection's requests aren't read on. What is
  /// in the pool by then still comes on top.
  static let waitingBytesMax = 8 << 20

  private struct State: Sendable {
    var isBroken = false
    var isWriting = false
    var waiting: [[UInt8]] = []
    /// Of `waiting`, and of what was taken from it and isn't written yet.
    var waitingBytes = 0
  }

  private let connection: any ByteConnection
  private let state = Guarded(State())

  init(_ connection: any ByteConnection) { self.connection = connection }

  /// Sends an answer that has no data.
  func send(header: [UInt8]) {
    unsafe send(header, UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// Sends a header and the data that belong to it.
  func send(_ header: [UInt8], _ data: UnsafeRawBufferPointer) {
    // SAFETY: the parts live for the call, which only reads them.
    unsafe header.withUnsafeBytes { raw in unsafe send(raw, data) }
  }

  /// Sends the first `count` bytes of a buffer.
  func send(_ buffer: PageBuffer, count: Int) {
    guard count > 0 else { return }
    // SAFETY: the part lives for the call.
    unsafe send(
      UnsafeRawBufferPointer(buffer.part(0, count)), UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// Waits until the client has read so much that another request may be read. Not for threads of the pool.
  func waitForRoom() {
    _ = state.wait { $0.isBroken || $0.waitingBytes < Self.waitingBytesMax ? true : nil }
  }

  /// Nothing can be sent any more: a part of an answer is missing.
  func fail() {
    state.update { $0.isBroken = true }
    connection.shutdown()
  }

  private func send(_ head: UnsafeRawBufferPointer, _ data: UnsafeRawBufferPointer) {
    let writes = state.update { state in
      if state.isBroken { return false }
      guard state.isWriting else {
        state.isWriting = true
        return true
      }
      let copy = unsafe Array(head) + Array(data)
      state.waiting.append(copy)
      state.waitingBytes += copy.count
      return false
    }
    guard writes else { return }
    // SAFETY: the parts live for the call, which only reads them.
    var parts = unsafe [head, data].map { part in
      unsafe iovec(
        iov_base: UnsafeMutableRawPointer(mutating: part.baseAddress), iov_len: part.count)
    }
    unsafe writeWaiting(after: write(&parts))
  }

  /// Writes what others have left here, until nobody has.
  private func writeWaiting(after isFine: Bool) {
    var (isFine, written) = (isFine, 0)
    while true {
      let next = state.update { state -> [[UInt8]]? in
        state.waitingBytes -= written
        if !isFine {
          state.isBroken = true
          (state.waiting, state.waitingBytes) = ([], 0)
        }
        guard !state.waiting.isEmpty else {
          state.isWriting = false
          return nil
        }
        defer { state.waiting = [] }
        return state.waiting
      }
      guard let next else { return }
      written = 0
      for answer in next where isFine {
        written += answer.count
        // SAFETY: the part lives for the call, which only reads it.
        isFine = unsafe answer.withUnsafeBytes { raw in
          var parts = unsafe [
            iovec(
              iov_base: UnsafeMutableRawPointer(mutating: raw.baseAddress), iov_len: raw.count)
          ]
          return unsafe write(&parts)
        }
      }
    }
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
