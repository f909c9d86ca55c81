public import Glibc

/// By when something that is done over a connection has to be over, however many pieces it comes in: where each read
/// alone has a limit, a peer that sends a byte now and then keeps a thread, and a place among the connections, for ever.
public struct Deadline: Sendable {
  private let what: String
  /// As `MonotonicClock.nowMs` counts.
  private let atMs: UInt64

  /// - Parameters:
  ///   - what: for messages, as "handshake".
  ///   - ms: from now on, in milliseconds.
  public init(_ what: String, ms: UInt64, nowMs: UInt64 = MonotonicClock.nowMs) {
    let (atMs, isTooFar) = nowMs.addingReportingOverflow(ms)
    (self.what, self.atMs) = (what, isTooFar ? .max : atMs)
  }

  /// Gives the next read or write of a connection what is left; throws when nothing is.
  public func bound(
    _ connection: any ByteConnection, nowMs: UInt64 = MonotonicClock.nowMs
  ) throws(SystemError) {
    guard nowMs < atMs else {
      throw SystemError("\(what) with \(connection.peer)", code: ETIMEDOUT)
    }
    connection.setTimeout(ms: atMs - nowMs)
  }
}

/// A connection of which everything that is read and written has to be over by a deadline. Whoever goes on with the
/// connection itself sets its time-out anew.
public final class BoundedConnection: ByteConnection {
  private let inner: any ByteConnection
  private let deadline: Deadline

  /// The time-out of `inner` is set anew before each read and write; one that begins after the
  /// deadline throws `ETIMEDOUT`.
  public init(_ inner: any ByteConnection, by deadline: Deadline) {
    (self.inner, self.deadline) = (inner, deadline)
  }

  public var peer: String { inner.peer }

  public func shutdown() { inner.shutdown() }

  public func finish() { inner.finish() }

  public func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
    try deadline.bound(inner)
    return try unsafe inner.read(into: buffer)
  }

  public func writeAll(_ parts: inout [iovec]) throws(SystemError) {
    try deadline.bound(inner)
    try unsafe inner.writeAll(&parts)
  }

  /// The deadline's.
  public func setTimeout(ms: UInt64) {}
}
