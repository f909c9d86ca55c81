import Base

/// Options that are answered with information.
extension ServerHandshake {
  /// The export of that name; the first for the empty name, when none has it.
  func find(_ name: String) -> Int? {
    exports.firstIndex { $0.name == name } ?? (name.isEmpty && !exports.isEmpty ? 0 : nil)
  }

  /// What transmission on export `index` would be like.
  func session(_ index: Int) -> ServerSession {
    var export = exports[index]
    // A client that can't get chunks can't ask for one of them.
    if mode == .simple { export.flags.remove(.sendDoNotFragment) }
    let ids = selected.flatMap { $0.index == index ? $0.ids : nil } ?? []
    return ServerSession(export: export, index: index, mode: mode, contexts: ids)
  }

  mutating func list(_ data: RawSpan) {
    let option = NBDOption.list.rawValue
    guard data.byteCount == 0 else {
      return output.refuse(option, .invalid, "no data expected")
    }
    for export in exports { output.server(export.name) }
    output.reply(option, .ack)
  }

  mutating func chooseMode(_ option: NBDOption, _ data: RawSpan) {
    let wanted: ReplyMode = option == .extendedHeaders ? .extended : .structured
    if data.byteCount > 0 {
      output.refuse(option.rawValue, .invalid, "no data expected")
    } else if mode > wanted {
      output.refuse(option.rawValue, .extendedHeadersRequired, "extended headers are on")
    } else if mode == wanted {
      output.refuse(option.rawValue, .invalid, "asked for twice")
    } else {
      mode = wanted
      output.reply(option.rawValue, .ack)
    }
  }

  mutating func infoOrGo(_ option: NBDOption, _ data: RawSpan) -> Outcome? {
    guard let request = Self.parseInfo(data) else {
      output.refuse(option.rawValue, .invalid, "malformed request")
      return nil
    }
    guard let index = find(request.name) else {
      output.refuse(option.rawValue, .unknown, "no export '\(request.name)'")
      return nil
    }
    if request.kinds.contains(InfoKind.blockSize) { knowsBlockSizes.insert(index) }
    guard canIgnoreBlockSizes(index) || knowsBlockSizes.contains(index) else {
      let minimum = exports[index].blockSizes.minimum
      output.refuse(
        option.rawValue, .blockSizeRequired, "requests must be multiples of \(minimum) bytes")
      return nil
    }
    let session = session(index)
    output.info(option, session.export, request.kinds)
    output.reply(option.rawValue, .ack)
    return option == .go ? .transmission(session) : nil
  }

  /// Whether clients that never heard of block sizes can use the export.
  func canIgnoreBlockSizes(_ index: Int) -> Bool { exports[index].blockSizes.minimum <= 512 }

  /// Name length u32, name, count u16, kinds u16 each; nil when malformed.
  private static func parseInfo(_ data: RawSpan) -> (name: String, kinds: [UInt16])? {
    var cursor = ByteCursor(data)
    do throws(DecodeError) {
      let name = try readString(&cursor)
      let count = try cursor.readBE(UInt16.self)
      guard cursor.remaining == Int(count) * 2 else { return nil }
      var kinds: [UInt16] = []
      for _ in 0..<count { kinds.append(try cursor.readBE()) }
      return (name, kinds)
    } catch { return nil }
  }

  private static func readString(_ cursor: inout ByteCursor) throws(DecodeError) -> String {
    let length = try cursor.readBE(UInt32.self)
    guard length <= UInt32(NBDLimits.stringBytesMax) else {
      throw DecodeError(
        .overLimit, in: "NBD string", at: UInt64(cursor.position), found: UInt64(length),
        limit: UInt64(NBDLimits.stringBytesMax))
    }
    return try cursor.readString(Int(length))
  }

  /// Name length u32, name, count u32, queries each with its length u32.
  mutating func metaContext(_ option: NBDOption, _ data: RawSpan) {
    guard mode >= .structured else {
      return output.refuse(option.rawValue, .invalid, "structured replies first")
    }
    if option == .setMetaContext { selected = nil }
    guard let (name, queries) = Self.parseQueries(data) else {
      return output.refuse(option.rawValue, .invalid, "malformed request")
    }
    guard let index = find(name) else {
      return output.refuse(option.rawValue, .unknown, "no export '\(name)'")
    }
    let contexts = exports[index].contexts.prefix(NBDLimits.contextsMax)
    var ids: [UInt32] = []
    for (id, context) in contexts.enumerated() {
      let isAsked =
        option == .listMetaContext
        ? queries.isEmpty || queries.contains { Self.lists($0, context) }
        : queries.contains(context)
      guard isAsked else { continue }
      ids.append(UInt32(id))
      output.context(option, id: option == .setMetaContext ? UInt32(id) : 0, context)
    }
    if option == .setMetaContext { selected = (index, ids) }
    output.reply(option.rawValue, .ack)
  }

  /// A query that ends in a colon asks for a whole namespace.
  private static func lists(_ query: String, _ context: String) -> Bool {
    query == context || (query.hasSuffix(":") && context.hasPrefix(query))
  }

  private static func parseQueries(_ data: RawSpan) -> (name: String, queries: [String])? {
    var cursor = ByteCursor(data)
    do throws(DecodeError) {
      let name = try readString(&cursor)
      let count = try cursor.readBE(UInt32.self)
      guard Int(count) <= cursor.remaining / 4 else { return nil }
      var queries: [String] = []
      for _ in 0..<count { queries.append(try readString(&cursor)) }
      return cursor.remaining == 0 ? (name, queries) : nil
    } catch { return nil }
  }
}
