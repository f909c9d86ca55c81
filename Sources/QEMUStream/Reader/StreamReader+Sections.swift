internal import Base

/// Section headers, RAM's block list and the tail.
extension StreamReader {
  /// The rest of a section header up to its name, for sections that are not read.
  func sectionName(_ cursor: inout ItemCursor) throws(ItemError) -> String {
    _ = try cursor.read() as UInt32
    return try cursor.countedString()
  }

  mutating func start<V: StreamVisitor>(
    _ cursor: inout ItemCursor, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let id: UInt32 = try cursor.read()
    let name = try cursor.countedString()
    guard name == StreamFormat.RAM.idString else {
      return try handOver(.foreignIterable(name: name), &visitor)
    }
    guard !ramIsKnown else { throw ItemError(.outOfOrder, in: "second RAM section", at: 0) }
    _ = try cursor.read() as UInt32  // instance
    let version: UInt32 = try cursor.read()
    guard version == StreamFormat.RAM.version else {
      return try handOver(.ramVersion(version), &visitor)
    }
    let word: UInt64 = try cursor.read()
    guard word & StreamFormat.RAM.flagMask == StreamFormat.RAM.memorySize else {
      return try handOver(.ramRecord(word), &visitor)
    }
    let total = word & ~StreamFormat.RAM.flagMask
    guard total <= limits.ramLength else {
      throw ItemError(
        .overLimit, in: "RAM size", at: cursor.position - 8, found: total, limit: limits.ramLength)
    }
    (sectionID, sectionStart, ramIsKnown) = (id, position, true)
    try verbatimStart(cursor.item, &visitor)
    state = total > 0 ? .blockList(remaining: total) : .ramRecords(.start)
    return cursor.position
  }

  private func verbatimStart<V: StreamVisitor>(
    _ bytes: RawSpan, _ visitor: inout V
  ) throws(ItemError) {
    let item = VerbatimItem.section(.start, id: sectionID, name: StreamFormat.RAM.idString)
    try visitor.tell { v throws(VisitorStopped) in try v.verbatim(bytes, item) }
  }

  mutating func blockListEntry<V: StreamVisitor>(
    _ bytes: RawSpan, _ remaining: UInt64, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    guard blocks.count < limits.ramBlockCount else {
      throw ItemError(
        .overLimit, in: "RAM block list", at: 0, found: UInt64(blocks.count) + 1,
        limit: UInt64(limits.ramBlockCount))
    }
    var cursor = ItemCursor(bytes)
    let name = try cursor.countedString()
    let length: UInt64 = try cursor.read()
    guard length <= remaining else {
      throw ItemError(
        .overLimit, in: "RAM block length", at: cursor.position - 8, found: length, limit: remaining
      )
    }
    guard length & UInt64(Page.size - 1) == 0 else {
      throw ItemError(
        .unaligned, in: "RAM block length", at: cursor.position - 8, found: length,
        limit: UInt64(Page.size))
    }
    guard !name.isEmpty, blockIndex[name] == nil else {
      throw ItemError(.badName, in: "RAM block list", at: 0)
    }
    let isLast = length == remaining
    var block = RAMBlock(name: name, length: length)
    if try hasPageSize(bytes, at: cursor.position, isLast: isLast) {
      let size: UInt64 = try cursor.read()
      guard size & (size &- 1) == 0, size & otherPageSizes != 0 else {
        throw ItemError(
          .badValue, in: "RAM block page size", at: cursor.position - 8, found: size)
      }
      block.pageSize = size
    }
    if ignoresShared { block.address = try cursor.read() as UInt64 }
    try verbatimStart(cursor.item, &visitor)
    blockIndex[name] = blocks.count
    blocks.append(block)
    state = isLast ? .ramRecords(.start) : .blockList(remaining: remaining - length)
    return cursor.position
  }

  /// Whether the entry whose length was just read goes on with a page size.
  ///
  /// The stream does not say so: the field is there when post-copy is possible and the block's
  /// pages differ from the host's. What follows tells them apart. Sizes and addresses are below
  /// 2^56, so they start with 00, a name's length does not. At the end of the list a record
  /// follows, whose word is below 4096 (its address part is 0) and not 0.
  private func hasPageSize(
    _ bytes: RawSpan, at place: Int, isLast: Bool
  ) throws(ItemError) -> Bool {
    guard otherPageSizes != 0 else { return false }
    var cursor = ItemCursor(bytes)
    // With addresses, the word in doubt comes after a first one that is there in both cases.
    _ = try cursor.take(place + (ignoresShared ? 8 : 0))
    guard isLast else { return try cursor.read() as UInt8 == 0 }
    let word: UInt64 = try cursor.read()
    return word >= UInt64(Page.size) || word == 0
  }

  mutating func ramSectionHeader<V: StreamVisitor>(
    _ cursor: inout ItemCursor, _ kind: SectionKind, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let id: UInt32 = try cursor.read()
    guard ramIsKnown, id == sectionID else {
      throw ItemError(
        .badValue, in: "section id", at: 1, found: UInt64(id), limit: UInt64(sectionID))
    }
    guard !ramIsComplete else {
      throw ItemError(.outOfOrder, in: "RAM section after its end", at: 0)
    }
    sectionStart = position
    state = .ramRecords(kind)
    try visitor.tell { v throws(VisitorStopped) in
      if kind == .part { try v.ramPartBegan() } else { try v.ramEndBegan() }
    }
    return cursor.position
  }

  /// `at` the end mark; `cursor` is behind it. Its footer belongs to the same item.
  mutating func endOfRAMSection<V: StreamVisitor>(
    _ cursor: inout ItemCursor, _ kind: SectionKind, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let type: UInt8 = try cursor.read()
    guard type == StreamFormat.Record.footer else { return try handOver(.missingFooter, &visitor) }
    let id: UInt32 = try cursor.read()
    guard id == sectionID else {
      throw ItemError(
        .badValue, in: "section footer", at: cursor.position - 4, found: UInt64(id),
        limit: UInt64(sectionID))
    }
    let range = sectionStart..<(position + UInt64(cursor.position))
    if kind == .start { try verbatimStart(cursor.item, &visitor) }
    let blocks = blocks
    try visitor.tell { v throws(VisitorStopped) in
      try v.ramSection(kind, range: range)
      switch kind {
      case .start: try v.ramBlocks(blocks, sectionID: id)
      case .part: try v.ramPartEnded()
      case .end, .full: try v.ramEnded()
      }
    }
    if kind == .end { ramIsComplete = true }
    state = kind == .end && !isPostcopy ? .tail : .record(subsections: false)
    return cursor.position
  }

  /// EOF of a post-copy stream: nothing follows.
  mutating func postcopyEnd<V: StreamVisitor>(
    _ bytes: RawSpan, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    state = .ended
    try visitor.tell { v throws(VisitorStopped) in
      try v.tail(bytes.extracting(0..<1))
      try v.ended(descriptionLength: 0)
    }
    return 1
  }

  mutating func tail<V: StreamVisitor>(
    _ bytes: RawSpan, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let (count, description) = scanner.scan(bytes, lengthMax: limits.descriptionLength)
    guard scanner.count <= limits.tailLength else {
      throw ItemError(
        .overLimit, in: "device state", at: 0, found: scanner.count, limit: limits.tailLength)
    }
    try visitor.tell { v throws(VisitorStopped) in
      try v.tail(bytes.extracting(0..<count))
      if let description { try v.ended(descriptionLength: description) }
    }
    if description != nil { state = .ended }
    return count
  }
}
