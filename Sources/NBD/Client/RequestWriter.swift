import Base

extension NBDRequest {
  /// Writes the header; a write's data follow it.
  public func encode(_ mode: ReplyMode, into out: inout [UInt8]) {
    let isExtended = mode == .extended
    var flags = flags
    if isExtended, command == .write { flags.insert(.payloadLength) }
    out.appendBE(isExtended ? NBDMagic.extendedRequest : NBDMagic.request)
    out.appendBE(flags.rawValue)
    out.appendBE(command.rawValue)
    out.appendBE(cookie)
    out.appendBE(offset)
    if isExtended { out.appendBE(length) } else { out.appendBE(UInt32(clamping: length)) }
  }
}
