internal import Base

/// The records between sections. Each function looks at the start of `bytes` and returns how many
/// bytes its item has, or nil when they are not all there; it calls the visitor only in the first
/// case, so that an item is never reported twice.
extension StreamReader {
  @usableFromInline
  mutating func item<V: StreamVisitor>(
    _ bytes: RawSpan, _ visitor: inout V
  ) throws(StreamError) -> Int? {
    do throws(ItemError) {
      switch state {
      case .header: return try header(bytes, &visitor)
      case .record(let subsections): return try record(bytes, subsections, &visitor)
      case .packaged(let remaining): return try packaged(bytes, remaining, &visitor)
      case .blockList(let remaining): return try blockListEntry(bytes, remaining, &visitor)
      case .ramRecords(let kind): return try ramRecord(bytes, kind, &visitor)
      case .tail: return try tail(bytes, &visitor)
      case .opaque:
        try visitor.tell { v throws(VisitorStopped) in try v.verbatim(bytes, .opaque) }
        return bytes.byteCount
      case .ended:
        throw ItemError(.outOfOrder, in: "bytes after the end", at: 0)
      case .failed(let error): throw .stream(error)
      }
    } catch {
      switch error {
      case .short: return nil
      case .decode(let error): throw .malformed(error.moved(by: position))
      case .stream(let error): throw error
      }
    }
  }

  private mutating func header<V: StreamVisitor>(
    _ bytes: RawSpan, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    var cursor = ItemCursor(bytes)
    let magic: UInt32 = try cursor.read()
    guard magic == StreamFormat.magic else {
      throw ItemError(
        .badMagic, in: "stream header", at: 0, found: UInt64(magic),
        limit: UInt64(StreamFormat.magic))
    }
    let version: UInt32 = try cursor.read()
    guard version == StreamFormat.version else {
      return try handOver(.streamVersion(version), &visitor)
    }
    try visitor.tell { v throws(VisitorStopped) in try v.verbatim(cursor.item, .header) }
    state = .record(subsections: false)
    return cursor.position
  }

  private mutating func record<V: StreamVisitor>(
    _ bytes: RawSpan, _ subsections: Bool, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    var cursor = ItemCursor(bytes)
    let type: UInt8 = try cursor.read()
    switch type {
    case StreamFormat.Record.subsection where subsections:
      return try configurationSubsection(&cursor, &visitor)
    case StreamFormat.Record.configuration where configuration == nil && !ramIsKnown:
      return try configurationRecord(&cursor, &visitor)
    case StreamFormat.Record.command: return try command(&cursor, &visitor)
    case StreamFormat.Record.start: return try start(&cursor, &visitor)
    case StreamFormat.Record.full:
      return try handOver(.earlyDeviceState(name: try sectionName(&cursor)), &visitor)
    case StreamFormat.Record.part, StreamFormat.Record.end:
      return try ramSectionHeader(
        &cursor, type == StreamFormat.Record.part ? .part : .end, &visitor)
    case StreamFormat.Record.endOfFile where isPostcopy && ramIsComplete:
      return try postcopyEnd(bytes, &visitor)
    case StreamFormat.Record.endOfFile, StreamFormat.Record.subsection,
      StreamFormat.Record.description, StreamFormat.Record.configuration,
      StreamFormat.Record.footer:
      throw ItemError(.outOfOrder, in: "record", at: 0, found: UInt64(type))
    default: return try handOver(.recordType(type), &visitor)
    }
  }

  private mutating func configurationRecord<V: StreamVisitor>(
    _ cursor: inout ItemCursor, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let length: UInt32 = try cursor.read()
    guard length <= limits.machineNameLength else {
      throw ItemError(
        .overLimit, in: "machine type", at: 1, found: UInt64(length),
        limit: UInt64(limits.machineNameLength))
    }
    configuration = StreamConfiguration(machineType: try cursor.string(Int(length)))
    try visitor.tell { v throws(VisitorStopped) in try v.verbatim(cursor.item, .configuration) }
    state = .record(subsections: true)
    return cursor.position
  }

  private mutating func configurationSubsection<V: StreamVisitor>(
    _ cursor: inout ItemCursor, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let name = try cursor.countedString()
    let version: UInt32 = try cursor.read()
    guard version == StreamConfiguration.Subsection.version else {
      return try handOver(.configurationSubsection(name), &visitor)
    }
    let decoded = try cursor.decode { c throws(DecodeError) in
      try StreamConfiguration.Subsection.decode(name: name, from: &c, limits: limits)
    }
    guard let subsection = decoded else {
      return try handOver(.configurationSubsection(name), &visitor)
    }
    switch subsection {
    case .capabilities(let names):
      for name in names where name != "x-ignore-shared" {
        return try handOver(.capability(name), &visitor)
      }
      ignoresShared = names.contains("x-ignore-shared")
    case .targetPageBits(let bits) where bits != UInt32(Page.shift):
      return try handOver(.targetPageBits(bits), &visitor)
    case .targetPageBits, .uuid: break
    }
    // No stream has more than these three; a repeated one says nothing new.
    if configuration?.subsections.count ?? 0 < 3 { configuration?.subsections.append(subsection) }
    try visitor.tell { v throws(VisitorStopped) in try v.verbatim(cursor.item, .configuration) }
    return cursor.position
  }

  private mutating func command<V: StreamVisitor>(
    _ cursor: inout ItemCursor, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let code: UInt16 = try cursor.read()
    let length = Int(try cursor.read() as UInt16)
    guard length <= limits.commandLength else {
      throw ItemError(
        .overLimit, in: "command", at: 3, found: UInt64(length), limit: UInt64(limits.commandLength)
      )
    }
    let data = try cursor.take(length)
    let decoded = try cursor.decode { _ throws(DecodeError) in
      do throws(DecodeError) { return try StreamCommand(code: code, data: data) } catch {
        throw DecodeError(.badValue, in: "command data", at: 5, found: UInt64(length))
      }
    }
    guard let command = decoded, command != .enableCOLO else {
      return try handOver(.command(code), &visitor)
    }
    try visitor.tell { v throws(VisitorStopped) in try v.verbatim(cursor.item, .command(code)) }
    state = .record(subsections: false)
    switch command {
    case .postcopyAdvise(let sizes?): otherPageSizes = sizes.summary & ~UInt64(Page.size)
    case .packaged(let length):
      isPostcopy = true
      if length > 0 { state = .packaged(remaining: UInt64(length)) }
    default: break
    }
    return cursor.position
  }

  private mutating func packaged<V: StreamVisitor>(
    _ bytes: RawSpan, _ remaining: UInt64, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let count = Int(min(remaining, UInt64(bytes.byteCount)))
    try visitor.tell { v throws(VisitorStopped) in
      try v.verbatim(bytes.extracting(0..<count), .packaged)
    }
    let rest = remaining - UInt64(count)
    state = rest > 0 ? .packaged(remaining: rest) : .record(subsections: false)
    return count
  }

  /// Passes everything from the current position on.
  mutating func handOver<V: StreamVisitor>(
    _ reason: HandoverReason, _ visitor: inout V
  ) throws(ItemError) -> Int {
    state = .opaque
    let (offset, block) = (position, lastBlock < 0 ? nil : lastBlock)
    try visitor.tell { v throws(VisitorStopped) in
      try v.handedOver(reason, at: offset, lastBlock: block)
    }
    return 0
  }
}
