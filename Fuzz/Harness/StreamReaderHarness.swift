import Base
import QEMUStream

/// What must hold for a `StreamReader` whatever the bytes are. The first byte chooses how the rest
/// is cut. Shared by the fuzzer and the test that replays its corpus.
public enum StreamReaderHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let first = data.first else { return nil }
    let bytes = Array(data.dropFirst())
    let whole = read(bytes, chunk: max(bytes.count, 1))
    if let broken = whole.visitor.broken { return broken }
    let split = read(bytes, chunk: Int(first) % 61 + 1)
    if let broken = split.visitor.broken { return broken }
    guard whole.error == split.error else {
      return "cut differently, \(whole.error as Any) became \(split.error as Any)"
    }
    return whole.visitor.digest == split.visitor.digest ? nil : "cut differently, the events differ"
  }

  private static func read(
    _ bytes: [UInt8], chunk: Int
  ) -> (visitor: DigestVisitor, error: StreamError?) {
    var visitor = DigestVisitor()
    var reader = StreamReader()
    var (from, to) = (0, 0)
    do throws(StreamError) {
      while to < bytes.count {
        to = min(to + chunk, bytes.count)
        let used = try consume(bytes, from..<to, &reader, &visitor)
        guard used >= 0, used <= to - from else {
          visitor.broken = "used \(used) of \(to - from)"
          return (visitor, nil)
        }
        from += used
        if to - from > StreamReader.carryMax { visitor.broken = "\(to - from) bytes carried" }
      }
      guard from == to else { return (visitor, nil) }
      try reader.finish(&visitor)
    } catch { return (visitor, error) }
    return (visitor, nil)
  }

  private static func consume(
    _ bytes: [UInt8], _ range: Range<Int>, _ reader: inout StreamReader,
    _ visitor: inout DigestVisitor
  ) throws(StreamError) -> Int {
    try reader.consume(bytes.span.bytes.extracting(range), &visitor)
  }

  /// Folds events into a number that does not depend on where byte runs were cut, and checks that
  /// each says something possible.
  struct DigestVisitor: StreamVisitor {
    var digest: UInt64 = 0xCBF2_9CE4_8422_2325
    var broken: String?
    private var blocks: [RAMBlock] = []
    private var run: VerbatimItem?
    private var isInTail = false

    private mutating func mix(_ byte: UInt8) { digest = (digest ^ UInt64(byte)) &* 0x100_0000_01B3 }
    private mutating func mix(_ values: UInt64...) {
      (run, isInTail) = (nil, false)
      for value in values {
        for shift in 0..<8 { mix(UInt8(truncatingIfNeeded: value >> (8 * UInt64(shift)))) }
      }
    }
    private mutating func mix(_ bytes: RawSpan) {
      for index in 0..<bytes.byteCount {
        mix(bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self))
      }
    }
    private mutating func check(_ block: Int, _ offset: UInt64) {
      guard blocks.indices.contains(block), offset % 4096 == 0, offset < blocks[block].length
      else { return broken = "page \(offset) of block \(block)" }
    }

    mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {
      if run != item || (item != .opaque && item != .packaged) { mix(1) }
      run = item
      mix(bytes)
    }
    mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) {
      self.blocks = blocks
      mix(2, UInt64(blocks.count), UInt64(sectionID))
    }
    mutating func ramPartBegan() { mix(3) }
    mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
      check(block, offset)
      if bytes.byteCount != 4096 { broken = "page of \(bytes.byteCount) bytes" }
      mix(4, UInt64(block), offset)
      mix(bytes)
    }
    mutating func zeroPage(block: Int, offset: UInt64) {
      check(block, offset)
      mix(5, UInt64(block), offset)
    }
    mutating func ramPartEnded() { mix(6) }
    mutating func ramEndBegan() { mix(7) }
    mutating func ramEnded() { mix(8) }
    mutating func ramSection(_ kind: SectionKind, range: Range<UInt64>) {
      mix(9, UInt64(kind.rawValue), range.lowerBound, range.upperBound)
    }
    mutating func tail(_ bytes: RawSpan) {
      if !isInTail { mix(10) }
      isInTail = true
      mix(bytes)
    }
    mutating func ended(descriptionLength: Int) { mix(11, UInt64(descriptionLength)) }
    mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {
      if let lastBlock, !blocks.indices.contains(lastBlock) { broken = "last block \(lastBlock)" }
      mix(12, offset, UInt64((lastBlock ?? -1) + 1))
    }
  }
}
