import HostIO

/// A server of keys and values in a guest.
public enum StoreServer: String, Sendable, CaseIterable {
  case memcached, redis

  /// Where it listens.
  var port: UInt16 {
    switch self {
    case .memcached: 11211
    case .redis: 6379
    }
  }

  /// A connection from the calling thread's network namespace.
  func connect(address: String, port: UInt16, timeoutMs: UInt64) throws -> any StoreConnection {
    let stream = try StoreStream(address: address, port: port, timeoutMs: timeoutMs)
    return switch self {
    case .memcached: MemcachedConnection(stream)
    case .redis: RedisConnection(stream)
    }
  }
}

/// One connection to such a server, for a thread of its own.
protocol StoreConnection: AnyObject {
  /// Stores values; returns when the server has confirmed each.
  func set(_ values: [(key: String, value: [UInt8])]) throws
  /// Reads values; those that the server does not have are missing.
  func get(_ keys: [String]) throws -> [String: [UInt8]]
}

/// Lines and counted bytes over a socket. Replies come from a guest under test, so lengths are bounded, and what
/// does not fit the protocol is a broken connection.
final class StoreStream {
  enum Failure: Error, Equatable {
    case closed
    /// Not the server's protocol.
    case unexpected(String)
  }

  /// A reply's line, and a value, at most.
  static let replyBytesMax = 64 << 10

  private let socket: StreamSocket
  private var received: [UInt8] = []

  /// Connects from the calling thread's network namespace.
  init(address: String, port: UInt16, timeoutMs: UInt64) throws {
    socket = try TCPSocket.connect(host: address, port: port, timeoutMs: min(timeoutMs, 2000))
    socket.setTimeout(ms: timeoutMs)
  }

  func send(_ bytes: [UInt8]) throws {
    // SAFETY: a view of the array's own bytes, which live as long as the call.
    try unsafe socket.writeAll(bytes.span.bytes)
  }

  /// The next line, without its CR LF.
  func line() throws -> String {
    while true {
      if let end = received.firstIndex(of: 10) {
        var text = received[..<end]
        if text.last == 13 { text.removeLast() }
        defer { received.removeFirst(end + 1) }
        return String(decoding: text, as: UTF8.self)
      }
      guard received.count < Self.replyBytesMax else { throw Failure.unexpected("endless line") }
      try receive()
    }
  }

  /// So many bytes, and the end of a line after them.
  func value(_ count: Int) throws -> [UInt8] {
    guard (0...Self.replyBytesMax).contains(count) else {
      throw Failure.unexpected("a value of \(count) bytes")
    }
    while received.count < count { try receive() }
    let bytes = Array(received[..<count])
    received.removeFirst(count)
    guard try line().isEmpty else { throw Failure.unexpected("no end of a value") }
    return bytes
  }

  private func receive() throws {
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    // SAFETY: the buffer lives for the call, and its own count bounds it.
    let count = unsafe try chunk.withUnsafeMutableBytes { unsafe try socket.read(into: $0) }
    guard count > 0 else { throw Failure.closed }
    received += chunk[..<count]
  }
}
