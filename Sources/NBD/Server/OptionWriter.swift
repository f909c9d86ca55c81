import Base

/// Writes a server's answers in the handshake.
struct OptionWriter {
  private(set) var bytes: [UInt8] = []

  mutating func greet() {
    bytes.appendBE(NBDMagic.greeting)
    bytes.appendBE(NBDMagic.option)
    bytes.appendBE(ServerHandshake.fixedNewstyle | ServerHandshake.noZeroes)
  }

  mutating func reply(_ option: UInt32, _ reply: OptionReply, _ data: [UInt8] = []) {
    bytes.appendBE(NBDMagic.optionReply)
    bytes.appendBE(option)
    bytes.appendBE(reply.rawValue)
    bytes.appendBE(UInt32(data.count))
    bytes += data
  }

  /// An error with a message for people.
  mutating func refuse(_ option: UInt32, _ reply: OptionReply, _ message: String) {
    self.reply(option, reply, Array(message.utf8.prefix(NBDLimits.stringBytesMax)))
  }

  mutating func server(_ name: String) {
    var data: [UInt8] = []
    data.appendBE(UInt32(name.utf8.count))
    data += name.utf8
    reply(NBDOption.list.rawValue, .server, data)
  }

  mutating func context(_ option: NBDOption, id: UInt32, _ name: String) {
    var data: [UInt8] = []
    data.appendBE(id)
    data += name.utf8
    reply(option.rawValue, .metaContext, data)
  }

  mutating func info(_ option: NBDOption, _ export: NBDExport, _ kinds: [UInt16]) {
    func send(_ kind: UInt16, _ fill: (inout [UInt8]) -> Void) {
      var data: [UInt8] = []
      data.appendBE(kind)
      fill(&data)
      reply(option.rawValue, .info, data)
    }
    send(InfoKind.export) {
      $0.appendBE(export.byteCount)
      $0.appendBE(export.flags.rawValue)
    }
    send(InfoKind.blockSize) {
      $0.appendBE(export.blockSizes.minimum)
      $0.appendBE(export.blockSizes.preferred)
      $0.appendBE(export.blockSizes.maximum)
    }
    if kinds.contains(InfoKind.name) { send(InfoKind.name) { $0 += export.name.utf8 } }
    if kinds.contains(InfoKind.description), !export.description.isEmpty {
      send(InfoKind.description) { $0 += export.description.utf8 }
    }
  }

  /// The answer to EXPORT_NAME, which has no header.
  mutating func exportName(_ export: NBDExport, zeroes: Bool) {
    bytes.appendBE(export.byteCount)
    bytes.appendBE(export.flags.rawValue)
    if zeroes { bytes += [UInt8](repeating: 0, count: 124) }
  }

  mutating func take() -> [UInt8] {
    defer { bytes = [] }
    return bytes
  }
}
