import Base
import QEMUStream
import TestSupport
import Testing

/// Writes again what a reader says, with `RAMWriter` for RAM's PART and END sections.
struct Rewriter: StreamVisitor {
  var out: [UInt8] = []
  var writer: RAMWriter?
  /// Whether `RAMWriter.start` gives the bytes that QEMU wrote.
  var startIsSame = false

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {
    out.append(contentsOf: bytes)
    // QEMU names its block anew when it turns to post-copy.
    if item == .packaged { writer?.resetContinuation() }
  }
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) {
    let writer = RAMWriter(sectionID: sectionID, blocks: blocks)
    var start: [UInt8] = []
    writer.start(into: &start)
    startIsSame = out.suffix(start.count) == start[...]
    self.writer = writer
  }
  mutating func ramPartBegan() { writer?.beginPart(into: &out) }
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    writer?.page(block: block, offset: offset, bytes: bytes, into: &out)
  }
  mutating func zeroPage(block: Int, offset: UInt64) {
    writer?.zeroPage(block: block, offset: offset, into: &out)
  }
  mutating func ramPartEnded() { writer?.endSection(into: &out) }
  mutating func ramEndBegan() { writer?.beginEnd(into: &out) }
  mutating func ramEnded() { writer?.endSection(into: &out) }
  mutating func tail(_ bytes: RawSpan) { out.append(contentsOf: bytes) }
  mutating func ended(descriptionLength: Int) {}
  mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {}
}

@Suite struct RoundTripTests {
  @Test(arguments: GoldenStream.all) func rewrittenStreamsSayTheSame(golden: GoldenStream) throws {
    // A dropped MULTIFD_FLUSH moves everything behind it.
    guard golden.name != "10.0-multifd" else { return }
    var rewriter = Rewriter()
    _ = try read(golden.bytes, into: &rewriter)
    var (before, after) = (EventLog(), EventLog())
    _ = try read(golden.bytes, into: &before)
    _ = try read(rewriter.out, into: &after)
    #expect(before.events == after.events)
    #expect(rewriter.startIsSame || before.events.last(where: isHandOver) != nil)
    let same = rewriter.out == golden.bytes
    #expect(same, "the bytes differ, \(rewriter.out.count) of \(golden.bytes.count)")
  }

  private func isHandOver(_ event: EventLog.Event) -> Bool {
    if case .handedOver = event { true } else { false }
  }
}
