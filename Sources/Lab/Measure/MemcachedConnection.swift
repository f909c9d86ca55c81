/// A connection to memcached: its text protocol.
final class MemcachedConnection: StoreConnection {
  private let stream: StoreStream

  init(_ stream: StoreStream) { self.stream = stream }

  func set(_ values: [(key: String, value: [UInt8])]) throws {
    var request: [UInt8] = []
    for (key, value) in values {
      request += Array("set \(key) 0 0 \(value.count)\r\n".utf8) + value + [13, 10]
    }
    try stream.send(request)
    for _ in values {
      let reply = try stream.line()
      guard reply == "STORED" else { throw StoreStream.Failure.unexpected(reply) }
    }
  }

  func get(_ keys: [String]) throws -> [String: [UInt8]] {
    try stream.send(Array("get \(keys.joined(separator: " "))\r\n".utf8))
    var found: [String: [UInt8]] = [:]
    for _ in 0...keys.count {
      let header = try stream.line()
      if header == "END" { return found }
      let fields = header.split(separator: " ")
      guard fields.count == 4, fields[0] == "VALUE", let count = Int(fields[3]),
        keys.contains(String(fields[1]))
      else { throw StoreStream.Failure.unexpected(header) }
      found[String(fields[1])] = try stream.value(count)
    }
    throw StoreStream.Failure.unexpected("more values than keys")
  }
}
