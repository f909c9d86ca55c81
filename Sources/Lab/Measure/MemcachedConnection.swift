import HostIO

/// One connection to memcached, text protocol, for a thread of its own.
///
/// Replies come from a guest under test, so lengths are bounded and what does not fit the protocol
/// is a broken connection.
final class MemcachedConnection {
  enum Failure: Error, Equatable {
    case closed
    /// Not memcached's protocol.
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

  /// Stores values; returns when memcached said STORED to each.
  func set(_ values: [(key: String, value: [UInt8])]) throws {
    var request: [UInt8] = []
    for (key, value) in values {
      request += Array("set \(key) 0 0 \(value.count)\r\n".utf8) + value + [13, 10]
    }
    try send(request)
    for _ in values {
      let reply = try line()
      guard reply == "STORED" else { throw Failure.unexpected(reply) }
    }
  }

  func set(_ key: String, _ value: [UInt8]) throws { try set([(key, value)]) }

  /// Reads values; those that memcached does not have are missing.
  func get(_ keys: [String]) throws -> [String: [UInt8]] {
    try send(Array("get \(keys.joined(separator: " "))\r\n".utf8))
    var found: [String: [UInt8]] = [:]
    for _ in 0...keys.count {
      let header = try line()
      if header == "END" { return found }
      let fields = header.split(separator: " ")
      guard fields.count == 4, fields[0] == "VALUE", let count = Int(fields[3]),
        (0...Self.replyBytesMax).contains(count), keys.contains(String(fields[1]))
      else { throw Failure.unexpected(header) }
      found[String(fields[1])] = try take(count)
      guard try line().isEmpty else { throw Failure.unexpected("no end of a value") }
    }
    throw Failure.unexpected("more values than keys")
  }

  /// Reads a value; nil when memcached does not have it.
  func get(_ key: String) throws -> [UInt8]? { try get([key])[key] }

  private func send(_ bytes: [UInt8]) throws {
    // SAFETY: a view of the array's own bytes, which live as long as the call.
    try unsafe socket.writeAll(bytes.span.bytes)
  }

  /// The next line, without its CR LF.
  private func line() throws -> String {
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

  private func take(_ count: Int) throws -> [UInt8] {
    while received.count < count { try receive() }
    defer { received.removeFirst(count) }
    return Array(received[..<count])
  }

  private func receive() throws {
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    let count = unsafe try chunk.withUnsafeMutableBytes { unsafe try socket.read(into: $0) }
    guard count > 0 else { throw Failure.closed }
    received += chunk[..<count]
  }
}
