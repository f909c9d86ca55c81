internal import Base

/// RAM records that the hot loop leaves: those that name their block, marks, everything unusual.
extension StreamReader {
  mutating func ramRecord<V: StreamVisitor>(
    _ bytes: RawSpan, _ kind: SectionKind, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    var cursor = ItemCursor(bytes)
    let word: UInt64 = try cursor.read()
    let offset = word & ~StreamFormat.RAM.flagMask
    let flags = word & StreamFormat.RAM.flagMask
    switch flags {
    case StreamFormat.RAM.endOfSection where offset == 0:
      return try endOfRAMSection(&cursor, kind, &visitor)
    case StreamFormat.RAM.multifdFlush where offset == 0:
      if kind == .start {
        let item = VerbatimItem.section(.start, id: sectionID, name: StreamFormat.RAM.idString)
        try visitor.tell { v throws(VisitorStopped) in try v.verbatim(cursor.item, item) }
      }
      multifdFlushCount &+= 1
      return cursor.position
    case StreamFormat.RAM.page, StreamFormat.RAM.page | StreamFormat.RAM.sameBlock,
      StreamFormat.RAM.zero, StreamFormat.RAM.zero | StreamFormat.RAM.sameBlock:
      guard kind != .start else { return try handOver(.ramRecord(word), &visitor) }
      return try pageRecord(&cursor, offset, flags, &visitor)
    default: return try handOver(.ramRecord(word), &visitor)
    }
  }

  private mutating func pageRecord<V: StreamVisitor>(
    _ cursor: inout ItemCursor, _ offset: UInt64, _ flags: UInt64, _ visitor: inout V
  ) throws(ItemError) -> Int? {
    let block = try blockOfRecord(&cursor, flags)
    let length = blocks[block].length
    guard offset < length else {
      throw ItemError(.overLimit, in: "RAM page offset", at: 0, found: offset, limit: length)
    }
    if flags & StreamFormat.RAM.page != 0 {
      let page = try cursor.take(Page.size)
      try visitor.tell { v throws(VisitorStopped) in
        try v.page(block: block, offset: offset, bytes: page)
      }
    } else {
      let fill: UInt8 = try cursor.read()
      // The block of this record was not taken yet: CONTINUE still refers to the one before.
      guard fill == 0 else { return try handOver(.zeroPageFill(fill), &visitor) }
      try visitor.tell { v throws(VisitorStopped) in try v.zeroPage(block: block, offset: offset) }
    }
    (lastBlock, lastBlockLength) = (block, length)
    return cursor.position
  }

  /// The block a page record is about: named by it, or the one named last.
  private func blockOfRecord(
    _ cursor: inout ItemCursor, _ flags: UInt64
  ) throws(ItemError) -> Int {
    if flags & StreamFormat.RAM.sameBlock != 0 {
      guard lastBlock >= 0 else {
        throw ItemError(.outOfOrder, in: "RAM record before any block's name", at: 0, found: flags)
      }
      return lastBlock
    }
    guard let block = blockIndex[try cursor.countedString()] else {
      throw ItemError(.badName, in: "RAM block name", at: 8)
    }
    return block
  }
}
