import Base
import NBD

/// Bytes of a client, written by hand: nothing of the client under test is used.
struct RawClient {
  var bytes: [UInt8]

  init(flags: UInt32 = 3) {
    bytes = []
    bytes.appendBE(flags)
  }

  mutating func option(_ code: UInt32, _ data: [UInt8] = []) {
    bytes += Array("IHAVEOPT".utf8)
    bytes.appendBE(code)
    bytes.appendBE(UInt32(data.count))
    bytes += data
  }

  static func text(_ text: String) -> [UInt8] {
    var data: [UInt8] = []
    data.appendBE(UInt32(text.utf8.count))
    return data + text.utf8
  }

  /// The data of INFO and GO.
  static func info(_ name: String, _ kinds: [UInt16] = []) -> [UInt8] {
    var data = text(name)
    data.appendBE(UInt16(kinds.count))
    for kind in kinds { data.appendBE(kind) }
    return data
  }

  /// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
  static func queries(_ name: String, _ queries: [String]) -> [UInt8] {
    var data = text(name)
    data.appendBE(UInt32(queries.count))
    for query in queries { data += text(query) }
    return data
  }
}

/// One answer to an option, as it is on the wire.
struct RawAnswer: Equatable {
  var option: UInt32
  var reply: OptionReply
  var data: [UInt8]

  /// Cuts a server's bytes behind the greeting into answers.
  static func all(_ bytes: [UInt8], greeted: Bool = true) throws -> [RawAnswer] {
    var cursor = ByteCursor(bytes.span.bytes)
    if greeted { _ = try cursor.take(18) }
    var answers: [RawAnswer] = []
    while cursor.remaining > 0 {
      let magic: UInt64 = try cursor.readBE()
      guard magic == 0x3_e889_0455_65a9 else {
        throw DecodeError(.badMagic, at: UInt64(cursor.position))
      }
      let option: UInt32 = try cursor.readBE()
      let reply = OptionReply(rawValue: try cursor.readBE())
      let length: UInt32 = try cursor.readBE()
      var data: [UInt8] = []
      data.append(contentsOf: try cursor.take(Int(length)))
      answers.append(RawAnswer(option: option, reply: reply, data: data))
    }
    return answers
  }
}

extension NBDExport {
  static let everything: ExportFlags = [
    .sendFlush, .sendFUA, .sendTrim, .sendWriteZeroes, .sendDoNotFragment, .canMultiConnect,
    .sendCache, .sendFastZero,
  ]
  static func sample(
    _ name: String = "disk", byteCount: UInt64 = 1 << 20, without: ExportFlags = [],
    minimum: UInt32 = 1
  ) -> NBDExport {
    NBDExport(
      name: name, description: "a disk", byteCount: byteCount,
      flags: everything.subtracting(without),
      blockSizes: BlockSizes(minimum: minimum, preferred: max(4096, minimum), maximum: 32 << 20)!,
      contexts: [NBDExtent.allocation, "godwit:test"])
  }
}

/// All bytes at once into a handshake.
func handshake(
  _ bytes: [UInt8], exports: [NBDExport] = [.sample()],
  security: ServerHandshake.Security = .none
) throws -> (answers: [RawAnswer], outcome: ServerHandshake.Outcome?, used: Int) {
  var server = ServerHandshake(exports: exports, security: security)
  let (used, outcome) = try server.receive(bytes.span.bytes)
  return (try RawAnswer.all(server.takeOutput()), outcome, used)
}
