public import Base

/// Writes RAM's sections for a destination QEMU, with its own CONTINUE state: pages may come in
/// any order, from any block, whatever the source's stream looked like.
///
/// Offsets are in bytes from the start of the block, multiples of 4096 inside it. Breaking that is
/// a defect of the caller, who has checked what the network said; it stops the process.
public struct RAMWriter: Sendable {
  /// The id that RAM's START section carried.
  public let sectionID: UInt32
  public let blocks: [RAMBlock]
  /// `length, name` of each block as records carry it.
  @usableFromInline let names: [[UInt8]]
  /// The block named last; -1 before the first.
  @usableFromInline var lastBlock = -1

  public init(sectionID: UInt32, blocks: [RAMBlock]) {
    self.sectionID = sectionID
    self.blocks = blocks
    names = blocks.map { block in
      var bytes: [UInt8] = []
      bytes.appendCounted(block.name)
      return bytes
    }
  }

  /// Appends the whole START section: header, block list, end mark, footer. Fields that depend on
  /// capabilities appear where the blocks have them (`RAMBlock.pageSize`, `RAMBlock.address`).
  public func start(into out: inout [UInt8]) {
    StreamItemWriter.sectionHeader(
      .start, id: sectionID, name: StreamFormat.RAM.idString, instance: 0,
      version: StreamFormat.RAM.version, into: &out)
    out.appendBE(blocks.reduce(0) { $0 &+ $1.length } | StreamFormat.RAM.memorySize)
    for (block, name) in zip(blocks, names) {
      out.append(contentsOf: name)
      out.appendBE(block.length)
      if let pageSize = block.pageSize { out.appendBE(pageSize) }
      if let address = block.address { out.appendBE(address) }
    }
    endSection(into: &out)
  }

  /// Appends the head of a PART; records follow, then `endSection`.
  public mutating func beginPart(into out: inout [UInt8]) {
    out.append(StreamFormat.Record.part)
    out.appendBE(sectionID)
  }

  /// Appends the head of the END section, once in a stream; records may follow, then `endSection`.
  public mutating func beginEnd(into out: inout [UInt8]) {
    out.append(StreamFormat.Record.end)
    out.appendBE(sectionID)
  }

  /// Appends the end mark and the footer of the open section.
  public func endSection(into out: inout [UInt8]) {
    out.appendBE(StreamFormat.RAM.endOfSection)
    StreamItemWriter.footer(id: sectionID, into: &out)
  }

  /// Appends the record of a page whose bytes are all zero: 9 bytes, and the block's name where it
  /// isn't the one named last.
  @inlinable
  public mutating func zeroPage(block: Int, offset: UInt64, into out: inout [UInt8]) {
    header(StreamFormat.RAM.zero, block, offset, &out)
    out.append(0)
  }

  /// The 4096 bytes of the page must follow; the caller writes them itself (`writev`).
  @inlinable
  public mutating func pageHeader(block: Int, offset: UInt64, into out: inout [UInt8]) {
    header(StreamFormat.RAM.page, block, offset, &out)
  }

  /// Appends the record with a copy of the page.
  ///
  /// - Precondition: `bytes` has 4096 bytes.
  @inlinable
  public mutating func page(
    block: Int, offset: UInt64, bytes: RawSpan, into out: inout [UInt8]
  ) {
    precondition(bytes.byteCount == Page.size)
    header(StreamFormat.RAM.page, block, offset, &out)
    out.append(contentsOf: bytes)
  }

  /// Forgets which block was named last, so that the next record names its own: needed where
  /// bytes that this writer did not write went out in between.
  public mutating func resetContinuation() { lastBlock = -1 }

  @inlinable
  mutating func header(
    _ flag: UInt64, _ block: Int, _ offset: UInt64, _ out: inout [UInt8]
  ) {
    precondition(offset & UInt64(Page.size - 1) == 0 && offset < blocks[block].length)
    if block == lastBlock {
      out.appendWord(offset | flag | StreamFormat.RAM.sameBlock)
    } else {
      out.appendWord(offset | flag)
      out.append(contentsOf: names[block])
      lastBlock = block
    }
  }
}

extension [UInt8] {
  /// `appendBE` of eight bytes in one step: the hot path of a page's header.
  @inlinable
  mutating func appendWord(_ value: UInt64) {
    let word = value.bigEndian
    // SAFETY: the pointer to `word` does not leave the closure.
    unsafe Swift.withUnsafeBytes(of: word) { raw in unsafe append(contentsOf: raw) }
  }
}
