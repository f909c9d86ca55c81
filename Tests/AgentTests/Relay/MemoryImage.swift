import Base
import QEMUStream
import TestSupport
import Testing

/// What a stream leaves behind in a destination: the last content of each page, and all that is
/// not RAM, in order.
struct MemoryImage: StreamVisitor, Equatable {
  struct Place: Hashable {
    let block, page: Int
  }

  var blocks: [RAMBlock] = []
  /// The last content; empty: zeros.
  var pages: [Place: [UInt8]] = [:]
  /// Bytes outside of RAM before the tail; what follows a hand-over apart.
  var verbatim: [UInt8] = []
  var opaque: [UInt8] = []
  var tail: [UInt8] = []
  var isComplete = false

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {
    if item == .opaque {
      opaque.append(contentsOf: bytes)
    } else {
      verbatim.append(contentsOf: bytes)
    }
  }
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) { self.blocks = blocks }
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    var copy: [UInt8] = []
    if !bytes.isAllZero { copy.append(contentsOf: bytes) }
    pages[Place(block: block, page: Int(offset >> 12))] = copy
  }
  mutating func zeroPage(block: Int, offset: UInt64) {
    pages[Place(block: block, page: Int(offset >> 12))] = []
  }
  mutating func ramPartEnded() {}
  mutating func ramEndBegan() {}
  mutating func ramEnded() {}
  mutating func tail(_ bytes: RawSpan) { tail.append(contentsOf: bytes) }
  mutating func ended(descriptionLength: Int) { isComplete = true }
  mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {}

  init() {}

  /// What `bytes` leave behind.
  init(of bytes: [UInt8]) throws(StreamError) { _ = try read(bytes, into: &self) }
}

/// Memory and everything else that the destination gets.
func expectSame(_ before: MemoryImage, _ after: MemoryImage) {
  #expect(before.blocks == after.blocks)
  #expect(before.isComplete && after.isComplete)
  let differing = before.pages.filter { after.pages[$0.key] != $0.value }.keys
  #expect(differing.isEmpty, "\(differing.count) of \(before.pages.count) pages differ")
  #expect(before.pages.count == after.pages.count)
  let same = (before.verbatim == after.verbatim, before.tail == after.tail)
  #expect(same.0, "bytes before the tail: \(before.verbatim.count), \(after.verbatim.count)")
  #expect(same.1, "bytes of the tail: \(before.tail.count), \(after.tail.count)")
  let opaqueIsSame = before.opaque == after.opaque
  #expect(opaqueIsSame, "bytes passed: \(before.opaque.count), \(after.opaque.count)")
}
