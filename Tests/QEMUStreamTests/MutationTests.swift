import Base
import QEMUStream
import TestSupport
import Testing

@Suite struct MutationTests {
  /// Flipped, cut, repeated and invented bytes: an answer or an error, never a trap; and whatever
  /// the reader says is what a page's place can be.
  @Test(arguments: UInt64(1)...200) func damagedStreamsNeverTrap(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let golden = GoldenStream.all[Int(seed) % GoldenStream.all.count]
    var bytes = golden.bytes
    for _ in 0..<Int.random(in: 1...8, using: &random) {
      // Half of the damage where the structure is dense: at the start.
      let span = Bool.random(using: &random) ? min(400, bytes.count) : bytes.count
      let place = Int.random(in: 0..<span, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes[place] ^= 1 << UInt8.random(in: 0...7, using: &random)
      case 2: bytes.removeSubrange(place..<min(place + 9, bytes.count))
      default: bytes.insert(contentsOf: [0xFF, 0xFF, 0xFF, 0xFF], at: place)
      }
    }
    var checker = PlaceChecker()
    do { _ = try read(bytes, into: &checker) { 30_000 } } catch StreamError.malformed {}
    #expect(checker.wrong == 0, "seed \(seed)")
  }

  @Test(arguments: UInt64(1)...100) func randomBytesBehindAHeader(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    var bytes: [UInt8] = []
    StreamItemWriter.header(into: &bytes)
    for _ in 0..<2000 { bytes.append(UInt8.random(in: 0...8, using: &random)) }
    var checker = PlaceChecker()
    do { _ = try read(bytes, into: &checker) } catch StreamError.malformed {}
    #expect(checker.wrong == 0)
  }

  struct PlaceChecker: StreamVisitor {
    var blocks: [RAMBlock] = []
    var wrong = 0
    mutating func check(_ block: Int, _ offset: UInt64) {
      guard blocks.indices.contains(block), offset % 4096 == 0, offset < blocks[block].length
      else { return wrong += 1 }
    }
    mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) { self.blocks = blocks }
    mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
      check(block, offset)
      if bytes.byteCount != 4096 { wrong += 1 }
    }
    mutating func zeroPage(block: Int, offset: UInt64) { check(block, offset) }
    mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {
      if let lastBlock, !blocks.indices.contains(lastBlock) { wrong += 1 }
    }
    mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {}
    mutating func ramPartEnded() {}
    mutating func ramEndBegan() {}
    mutating func ramEnded() {}
    mutating func tail(_ bytes: RawSpan) {}
    mutating func ended(descriptionLength: Int) {}
  }
}
