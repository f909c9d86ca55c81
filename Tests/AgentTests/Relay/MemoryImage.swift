import Base
import QEMUStream
import TestSupport

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
