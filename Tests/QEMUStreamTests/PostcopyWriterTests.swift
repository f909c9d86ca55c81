import Base
import QEMUStream
import TestSupport
import Testing

/// The guest's memory at the stop as a pre-copy stream tells it, and the parts of that stream.
private struct PrecopyParts: StreamVisitor {
  /// Up to and with RAM's START section.
  var beforeStart: [UInt8] = []
  var start: [UInt8] = []
  var hasReturnPath = false
  var sectionID: UInt32 = 0
  var blocks: [RAMBlock] = []
  /// By block and page; nil: zeros.
  var memory: [[[UInt8]?]] = []
  var tail: [UInt8] = []
  var descriptionLength = 0

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {
    switch item {
    case .section(.start, _, "ram"): start.append(contentsOf: bytes)
    case .command(1):
      hasReturnPath = true
      fallthrough
    default: if blocks.isEmpty { beforeStart.append(contentsOf: bytes) }
    }
  }
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) {
    (self.blocks, self.sectionID) = (blocks, sectionID)
    memory = blocks.map { Array(repeating: nil, count: $0.pageCount) }
  }
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    var page: [UInt8] = []
    page.append(contentsOf: bytes)
    memory[block][Int(offset >> 12)] = page
  }
  mutating func zeroPage(block: Int, offset: UInt64) { memory[block][Int(offset >> 12)] = nil }
  mutating func ramPartEnded() {}
  mutating func ramEndBegan() {}
  mutating func ramEnded() {}
  mutating func tail(_ bytes: RawSpan) { tail.append(contentsOf: bytes) }
  mutating func ended(descriptionLength: Int) { self.descriptionLength = descriptionLength }
  mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {}
}

@Suite struct PostcopyWriterTests {
  static let blocks = SyntheticStream.blocks

  /// ADVISE, DISCARD and the package byte by byte.
  @Test func bytesAreThoseOfTheFormat() throws {
    var out: [UInt8] = []
    PostcopyWriter.advise(opensReturnPath: true, into: &out)
    #expect(
      out == [8, 0, 1, 0, 0]  // OPEN_RETURN_PATH
        + [8, 0, 3, 0, 16] + [0, 0, 0, 0, 0, 0, 0x10, 0] + [0, 0, 0, 0, 0, 0, 0x10, 0])
    out = []
    PostcopyWriter.advise(opensReturnPath: false, into: &out)
    #expect(out.prefix(3) == [8, 0, 3])

    var writer = try PostcopyWriter(sectionID: 2, blocks: Self.blocks)
    var owed = PageBitmap(count: 64)
    for page in [1, 2, 3, 63] { owed[page] = true }
    out = []
    writer.discard(block: 0, owed, base: 0, range: 0..<64, into: &out)
    #expect(
      out == [8, 0, 6, 0, 41]  // RAM_DISCARD
        + [0, 6] + Array("pc.ram".utf8) + [0]  // version, name, its end
        + [0, 0, 0, 0, 0, 0, 0x10, 0] + [0, 0, 0, 0, 0, 0, 0x30, 0]  // pages 1 to 3
        + [0, 0, 0, 0, 0, 3, 0xF0, 0] + [0, 0, 0, 0, 0, 0, 0x10, 0])  // page 63

    let full: [UInt8] = [4, 0, 0, 0, 5, 1, 0x74, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0x7E, 0, 0, 0, 5]
    let state = try DeviceState(tail: full + [0], descriptionLength: 0)
    #expect(state.bytes == full)
    out = []
    try writer.start(state, into: &out)
    #expect(
      out == [8, 0, 7, 0, 4, 0, 0, 0, 31]  // PACKAGED
        + [8, 0, 4, 0, 0] + full + [8, 0, 5, 0, 0])  // LISTEN, devices, RUN
    out = []
    writer.zeroPage(block: 1, offset: 0x1000, into: &out)
    writer.zeroPage(block: 1, offset: 0, into: &out)
    writer.end(into: &out)
    #expect(
      out == [2, 0, 0, 0, 2]  // one PART
        + [0, 0, 0, 0, 0, 0, 0x10, 2, 7] + Array("pc.bios".utf8) + [0]
        + [0, 0, 0, 0, 0, 0, 0, 0x22, 0]  // the same block
        + [0, 0, 0, 0, 0, 0, 0, 0x10, 0x7E, 0, 0, 0, 2]
        + [3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x7E, 0, 0, 0, 2, 0])  // END, EOF
  }

  @Test func discardsAreCutIntoWhatQEMUTakes() throws {
    let blocks = [RAMBlock(name: "ram", length: 64 << 12)]
    let writer = try PostcopyWriter(sectionID: 1, blocks: blocks)
    // The block's numbers begin at 128 in a bitmap of all memory.
    var owed = PageBitmap(count: 300)
    for page in stride(from: 128, to: 192, by: 2) { owed[page] = true }
    owed[127] = true
    owed[192] = true
    var out: [UInt8] = []
    for part in [128..<161, 161..<192] {
      writer.discard(block: 0, owed, base: 128, range: part, into: &out)
    }
    var starts: [UInt64] = []
    var at = 0
    while at < out.count {
      let length = Int(out[at + 3]) << 8 | Int(out[at + 4])
      let record = Array(out[at..<at + 5 + length])
      guard case .ramDiscard("ram", let ranges) = try StreamCommand(record: record.span.bytes)
      else { throw VisitorStopped() }
      #expect((1...StreamCommand.discardRangeCountMax).contains(ranges.count))
      #expect(ranges.allSatisfy { $0.length == 4096 })
      starts += ranges.map(\.start)
      at += record.count
    }
    #expect(starts == (0..<32).map { $0 * 8192 })
    out = []
    writer.discard(block: 0, PageBitmap(count: 300), base: 128, range: 128..<192, into: &out)
    #expect(out.isEmpty)
  }

  /// What a reader finds in the converted stream is what QEMU's own post-copy streams have, and the
  /// memory is the guest's, each page after RUN exactly once.
  @Test(arguments: ["7.2-return-path", "10.0-return-path", "10.0-q35-devices", "7.2-precopy"])
  func aPrecopyStreamBecomesPostcopy(name: String) throws {
    var parts = PrecopyParts()
    _ = try read(GoldenStream.named(name).bytes, into: &parts)
    let state = try DeviceState(tail: parts.tail, descriptionLength: parts.descriptionLength)
    var out = parts.beforeStart
    PostcopyWriter.advise(opensReturnPath: !parts.hasReturnPath, into: &out)
    out += parts.start

    // A third of the pages is sent before, half of these are stale, and one block is empty.
    var random = SplitMix64(seed: 7)
    var ram = RAMWriter(sectionID: parts.sectionID, blocks: parts.blocks)
    var writer = try PostcopyWriter(sectionID: parts.sectionID, blocks: parts.blocks)
    var owed = parts.blocks.map { PageBitmap(count: $0.pageCount, filled: true) }
    let garbage = [UInt8](repeating: 0xEE, count: Page.size)
    ram.beginPart(into: &out)
    for block in parts.blocks.indices.dropFirst() {
      for page in 0..<parts.blocks[block].pageCount
      where Int.random(in: 0..<3, using: &random) == 0 {
        let isStale = Bool.random(using: &random)
        let bytes = isStale ? garbage : parts.memory[block][page]
        let offset = UInt64(page) << 12
        if let bytes {
          ram.page(block: block, offset: offset, bytes: bytes.span.bytes, into: &out)
        } else {
          ram.zeroPage(block: block, offset: offset, into: &out)
        }
        if !isStale { owed[block][page] = false }
      }
    }
    ram.endSection(into: &out)
    for (block, pages) in owed.enumerated() {
      writer.discard(block: block, pages, base: 0, range: 0..<pages.count, into: &out)
    }
    try writer.start(state, into: &out)
    // In any order: from the last block and page to the first.
    for block in owed.indices.reversed() {
      var next = owed[block].last(atOrBefore: owed[block].count)
      while let page = next {
        let offset = UInt64(page) << 12
        if let bytes = parts.memory[block][page] {
          writer.page(block: block, offset: offset, bytes: bytes.span.bytes, into: &out)
        } else {
          writer.zeroPage(block: block, offset: offset, into: &out)
        }
        next = owed[block].last(atOrBefore: page - 1)
      }
    }
    writer.end(into: &out)

    var check = PostcopyCheck()
    let reader = try read(out, into: &check)
    #expect(reader.isComplete && reader.isPostcopy)
    #expect(check.trouble == nil)
    #expect(check.memory == parts.memory)
    #expect(check.package == [8, 0, 4, 0, 0] + state.bytes + [8, 0, 5, 0, 0])
    // The same commands in the same order as QEMU's own, but for its pings.
    #expect(check.commands.first == 1 && check.commands.contains(3))
    #expect(check.commands.drop { $0 != 6 }.allSatisfy { $0 == 6 || $0 == 7 })
    #expect(check.commands.last == 7)
  }

  @Test func largePagesAreRefused() {
    let large = [RAMBlock(name: "mem0", length: 2 << 20, pageSize: 2 << 20)]
    #expect(throws: PostcopyWriter.Refusal.largePages(block: "mem0")) {
      try PostcopyWriter(sectionID: 1, blocks: large)
    }
    #expect(throws: Never.self) {
      try PostcopyWriter(
        sectionID: 1, blocks: [RAMBlock(name: "mem0", length: 4096, pageSize: 4096)])
    }
  }

  @Test func tailsAreCutOnlyWhereTheyEnd() throws {
    let full: [UInt8] = [4, 0, 0, 0, 5, 1, 0x74, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0x7E, 0, 0, 0, 5]
    var tail = full
    StreamItemWriter.end(description: SyntheticStream.description, into: &tail)
    let length = SyntheticStream.description.utf8.count
    #expect(try DeviceState(tail: tail, descriptionLength: length).bytes == full)
    for wrong in [-1, .min, length - 1, length + 1, tail.count, .max] {
      #expect(throws: DecodeError.self) {
        try DeviceState(tail: tail, descriptionLength: wrong)
      }
    }
    #expect(throws: DecodeError.self) { try DeviceState(tail: [], descriptionLength: 0) }
    #expect(throws: DecodeError.self) { try DeviceState(tail: full, descriptionLength: 0) }
    #expect(throws: DecodeError.self) { try DeviceState(tail: [8, 0], descriptionLength: 0) }
    #expect(try DeviceState(tail: [0], descriptionLength: 0).bytes.isEmpty)
  }
}

/// Applies a post-copy stream as a destination does, and notices what QEMU would not survive.
private struct PostcopyCheck: StreamVisitor {
  var memory: [[[UInt8]?]] = []
  var present: [[Bool]] = []
  var names: [String] = []
  var commands: [UInt16] = []
  var package: [UInt8] = []
  var trouble: String?

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {
    switch item {
    case .command(let code):
      commands.append(code)
      guard case .ramDiscard(let name, let ranges)? = try? StreamCommand(record: bytes),
        let block = names.firstIndex(of: name)
      else { return }
      for range in ranges {
        for page in range.start >> 12..<(range.start + range.length) >> 12 {
          present[block][Int(page)] = false
          memory[block][Int(page)] = nil
        }
      }
    case .packaged: package.append(contentsOf: bytes)
    default: break
    }
  }
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) {
    names = blocks.map(\.name)
    memory = blocks.map { Array(repeating: nil, count: $0.pageCount) }
    present = blocks.map { Array(repeating: true, count: $0.pageCount) }
  }
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    var page: [UInt8] = []
    page.append(contentsOf: bytes)
    place(block, Int(offset >> 12), page)
  }
  mutating func zeroPage(block: Int, offset: UInt64) { place(block, Int(offset >> 12), nil) }
  private mutating func place(_ block: Int, _ page: Int, _ bytes: [UInt8]?) {
    if !package.isEmpty, present[block][page] { trouble = "page \(page) of \(block) comes twice" }
    present[block][page] = true
    memory[block][page] = bytes
  }
  mutating func ramPartEnded() {}
  mutating func ramEndBegan() {
    if present.contains(where: { $0.contains(false) }) { trouble = "pages are missing" }
  }
  mutating func ramEnded() {}
  mutating func tail(_ bytes: RawSpan) {
    if bytes.byteCount != 1 || !bytes.isAllZero { trouble = "more than EOF behind RAM" }
  }
  mutating func ended(descriptionLength: Int) {}
  mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {
    trouble = "\(reason)"
  }
}
