/// A connection to redis: version 2 of its protocol, RESP. Requests are arrays of counted texts.
final class RedisConnection: StoreConnection {
  private let stream: StoreStream

  init(_ stream: StoreStream) { self.stream = stream }

  func set(_ values: [(key: String, value: [UInt8])]) throws {
    try stream.send(
      values.flatMap { Self.request([Array("SET".utf8), Array($0.key.utf8), $0.value]) })
    for _ in values {
      let reply = try stream.line()
      guard reply == "+OK" else { throw StoreStream.Failure.unexpected(reply) }
    }
  }

  func get(_ keys: [String]) throws -> [String: [UInt8]] {
    try stream.send(Self.request([Array("MGET".utf8)] + keys.map { Array($0.utf8) }))
    let header = try stream.line()
    guard header == "*\(keys.count)" else { throw StoreStream.Failure.unexpected(header) }
    var found: [String: [UInt8]] = [:]
    for key in keys {
      let length = try stream.line()
      if length == "$-1" { continue }
      guard length.first == "$", let count = Int(length.dropFirst()) else {
        throw StoreStream.Failure.unexpected(length)
      }
      found[key] = try stream.value(count)
    }
    return found
  }

  static func request(_ words: [[UInt8]]) -> [UInt8] {
    words.reduce(into: Array("*\(words.count)\r\n".utf8)) { bytes, word in
      bytes += Array("$\(word.count)\r\n".utf8) + word + [13, 10]
    }
  }
}
