import Base

/// One answer of a server's to an option.
struct OptionAnswer {
  let option: NBDOption
  let reply: OptionReply
  let data: [UInt8]
  /// Where it began, in bytes from the start of the connection.
  let position: UInt64

  /// nil: it isn't there as a whole yet. `cursor` has moved only when it is.
  init?(
    reading cursor: inout ByteCursor, to option: NBDOption, at position: UInt64
  ) throws(DecodeError) {
    guard cursor.remaining >= 20 else { return nil }
    let magic: UInt64 = try cursor.readBE()
    let code: UInt32 = try cursor.readBE()
    guard magic == NBDMagic.optionReply, code == option.rawValue else {
      throw DecodeError(
        .badMagic, in: "answer to an NBD option", at: position, found: magic,
        limit: NBDMagic.optionReply)
    }
    reply = OptionReply(rawValue: try cursor.readBE())
    let length: UInt32 = try cursor.readBE()
    guard length <= UInt32(NBDLimits.optionBytesMax) else {
      throw DecodeError(
        .overLimit, in: "answer to an NBD option", at: position, found: UInt64(length),
        limit: UInt64(NBDLimits.optionBytesMax))
    }
    guard cursor.remaining >= Int(length) else { return nil }
    var bytes: [UInt8] = []
    bytes.append(contentsOf: try cursor.take(Int(length)))
    (self.option, data, self.position) = (option, bytes, position)
  }

  var malformed: DecodeError {
    DecodeError(
      .badValue, in: "answer to an NBD option", at: position, found: UInt64(reply.rawValue))
  }

  /// What an error says; its text is for people, so what isn't UTF-8 in it is replaced.
  var refusal: ClientError {
    .refused(
      option, reply, message: String(decoding: data.prefix(NBDLimits.stringBytesMax), as: UTF8.self)
    )
  }
}

extension ClientHandshake {
  /// Number u32, name.
  mutating func note(context answer: OptionAnswer) throws(ClientError) {
    let id: UInt32
    let name: String
    do throws(DecodeError) {
      // SAFETY: the array outlives the cursor, which stays in this function.
      var cursor = unsafe ByteCursor(answer.data.span.bytes)
      id = try cursor.readBE()
      name = try cursor.readString(cursor.remaining)
    } catch { throw .malformed(error.moved(by: answer.position)) }
    // What wasn't asked for, or was told already, is of no use.
    guard wish.contexts.contains(name), contexts.count < NBDLimits.contextsMax,
      !contexts.contains(where: { $0.id == id || $0.name == name })
    else { throw .malformed(answer.malformed) }
    contexts.append(ClientSession.Context(id: id, name: name))
  }

  /// Kind u16, and what that kind has; unknown ones are passed over.
  mutating func note(info answer: OptionAnswer) throws(DecodeError) {
    // SAFETY: the array outlives the cursor, which stays in this function.
    var cursor = unsafe ByteCursor(answer.data.span.bytes)
    switch try cursor.readBE(UInt16.self) {
    case InfoKind.export:
      let byteCount: UInt64 = try cursor.readBE()
      guard byteCount <= UInt64(Int64.max) else {
        throw DecodeError(
          .overLimit, in: "NBD export size", at: answer.position, found: byteCount,
          limit: UInt64(Int64.max))
      }
      export = (byteCount, ExportFlags(rawValue: try cursor.readBE()))
    case InfoKind.blockSize:
      let sizes: [UInt32] = [try cursor.readBE(), try cursor.readBE(), try cursor.readBE()]
      // Some servers have no upper bound: 2^32 - 1, which is a multiple of nothing.
      let maximum = min(sizes[2], UInt32(NBDLimits.payloadBytesMax))
      guard let read = BlockSizes(minimum: sizes[0], preferred: sizes[1], maximum: maximum)
      else { throw answer.malformed }
      blockSizes = read
    case InfoKind.description:
      guard cursor.remaining <= NBDLimits.stringBytesMax else { throw answer.malformed }
      description = try cursor.readString(cursor.remaining)
    default: return
    }
    guard cursor.remaining == 0 else { throw answer.malformed }
  }
}
