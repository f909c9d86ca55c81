import Base
import QEMUStream

/// Counts what a stream holds. Memory: the block list, a bounded number of commands, and the end
/// of the tail, for the description.
struct StreamInspector: StreamVisitor {
  /// Commands listed one by one; the rest is counted.
  static let commandCountMax = 200
  /// Bytes of the tail kept; a longer description is not shown.
  static let tailLengthMax = 16 << 20

  private var summary = StreamSummary()
  private var tail: [UInt8] = []
  private var tailCount: UInt64 = 0

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {
    switch item {
    case .command(let code): command(bytes, code)
    case .packaged: summary.packagedBytes = (summary.packagedBytes ?? 0) + UInt64(bytes.byteCount)
    case .opaque: summary.opaqueBytes = (summary.opaqueBytes ?? 0) + UInt64(bytes.byteCount)
    case .header, .configuration, .section: break
    }
  }

  private mutating func command(_ bytes: RawSpan, _ code: UInt16) {
    summary.commandCount += 1
    guard summary.commands.count < Self.commandCountMax else { return }
    let decoded = try? QEMUStream.StreamCommand(record: bytes)
    summary.commands.append(decoded.map(Self.text) ?? "\(code)")
  }

  private static func text(_ command: QEMUStream.StreamCommand) -> String {
    switch command {
    case .ping(let value): "PING \(value)"
    case .packaged(let length): "PACKAGED \(length) bytes"
    case .postcopyAdvise(let sizes?):
      "POSTCOPY_ADVISE page sizes 0x\(String(sizes.summary, radix: 16))"
    case .ramDiscard(let block, let ranges):
      "POSTCOPY_RAM_DISCARD \(block), \(ranges.count) range\(ranges.count == 1 ? "" : "s")"
    case .receivedBitmap(let block): "RECV_BITMAP \(block)"
    default: command.name
    }
  }

  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) {
    summary.ramSectionID = sectionID
    summary.blocks = blocks.map { StreamSummary.Block(block: $0) }
  }
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    summary.blocks[block].rawPages += 1
  }
  mutating func zeroPage(block: Int, offset: UInt64) { summary.blocks[block].zeroPages += 1 }
  mutating func ramPartEnded() {}
  mutating func ramEndBegan() {}
  mutating func ramEnded() {}

  mutating func ramSection(_ kind: SectionKind, range: Range<UInt64>) {
    let bytes = range.upperBound - range.lowerBound
    switch kind {
    case .start: summary.ramSections.start.add(bytes)
    case .part: summary.ramSections.part.add(bytes)
    case .end, .full: summary.ramSections.end.add(bytes)
    }
  }

  mutating func tail(_ bytes: RawSpan) {
    tailCount += UInt64(bytes.byteCount)
    tail.append(contentsOf: bytes)
    // Cut rarely, so that each byte is moved once.
    if tail.count > 2 * Self.tailLengthMax { tail.removeFirst(tail.count - Self.tailLengthMax) }
  }

  mutating func ended(descriptionLength: Int) {
    summary.isComplete = summary.handedOver == nil
    summary.descriptionBytes = UInt64(descriptionLength)
    let end = descriptionLength > 0 ? UInt64(descriptionLength) + 6 : 1
    summary.deviceStateBytes = tailCount >= end ? tailCount - end : nil
    guard descriptionLength > 0, descriptionLength <= tail.count else { return }
    summary.devices = DeviceDescription.devices(ofJSON: Array(tail.suffix(descriptionLength)))
  }

  mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {
    summary.handedOver = .init(reason: reason.text, offset: offset)
  }

  /// Takes over what the reader itself knows.
  mutating func finish(_ reader: StreamReader) {
    summary.bytes = reader.position
    summary.machineType = reader.configuration?.machineType
    summary.capabilities = reader.configuration?.capabilities ?? []
    summary.multifdFlushes = reader.multifdFlushCount
    summary.order = reader.isPostcopy ? "postcopy" : "precopy"
    tail = []
  }

  func summary(problem: String?) -> StreamSummary {
    var result = summary
    result.error = problem
    if problem != nil { result.isComplete = false }
    return result
  }
}

extension HandoverReason {
  /// For people.
  var text: String {
    switch self {
    case .foreignIterable(let name): "device \(name) sends its state in parts without a length"
    case .earlyDeviceState(let name): "device \(name) sends its state before the memory's end"
    case .streamVersion(let version): "stream version \(version)"
    case .ramVersion(let version): "version \(version) of the memory section"
    case .targetPageBits(let bits): "target pages of 2^\(bits) bytes"
    case .capability(let name): "capability \(name) changes the format"
    case .configurationSubsection(let name): "unknown configuration \(name)"
    case .recordType(let type): "unknown record type 0x\(String(type, radix: 16))"
    case .command(let code): "unknown command \(code)"
    case .ramRecord(let word) where word & 0xFFF & ~0x020 == 0x040: "XBZRLE page"
    case .ramRecord(let word) where word & 0xFFF & ~0x020 == 0x100: "compressed page"
    case .ramRecord(let word) where word & 0xFFF & ~0x020 == 0x080: "RDMA hook"
    case .ramRecord(let word): "unknown page record 0x\(String(word, radix: 16))"
    case .zeroPageFill(let byte): "page filled with 0x\(String(byte, radix: 16))"
    case .missingFooter: "sections without footers"
    }
  }
}
