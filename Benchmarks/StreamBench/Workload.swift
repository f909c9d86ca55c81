import Base
import QEMUStream

/// A stream of pages in memory, and what is done with it.
struct Workload {
  /// Bytes per `consume`, as a large socket buffer gives them.
  static let chunkLength = 1 << 20

  let blocks: [RAMBlock]
  /// Page numbers in the order they are sent: every page once, shuffled.
  let order: [Int]
  /// Non-zero in its last bytes only, so that a test for zero has to look at all of it.
  let page: [UInt8]

  init(pageCount: Int) {
    blocks = [RAMBlock(name: "pc.ram", length: UInt64(pageCount) << UInt64(Page.shift))]
    var random = SplitMix64(seed: 1)
    order = (0..<pageCount).shuffled(using: &random)
    var page = [UInt8](repeating: 0, count: Page.size)
    page[Page.size - 1] = 1
    self.page = page
  }

  /// Header, configuration, START, one PART with every page. END is left out: reading stops there.
  func stream() -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(order.count * (Page.size + 8) + 4096)
    StreamItemWriter.header(into: &bytes)
    StreamConfiguration(machineType: "pc-i440fx-7.2").encode(into: &bytes)
    var writer = RAMWriter(sectionID: 2, blocks: blocks)
    writer.start(into: &bytes)
    writer.beginPart(into: &bytes)
    // SAFETY: a view of initialized bytes, which `page` outlives.
    let span = unsafe page.span.bytes
    for number in order {
      writer.page(
        block: 0, offset: UInt64(number) << UInt64(Page.shift), bytes: span, into: &bytes)
    }
    writer.endSection(into: &bytes)
    return bytes
  }

  /// Reads `stream` in chunks as large as a socket gives them.
  func read<V: StreamVisitor>(_ stream: [UInt8], _ visitor: inout V) throws {
    var reader = StreamReader()
    // SAFETY: a view of initialized bytes, which `stream` outlives.
    let bytes = unsafe stream.span.bytes
    var (from, to) = (0, 0)
    while to < stream.count {
      to = min(to + Self.chunkLength, stream.count)
      from += try reader.consume(bytes.extracting(from..<to), &visitor)
    }
  }

  /// Writes every page into a buffer that is used again when it is full; returns bytes written.
  func write(copying: Bool) -> Int {
    var writer = RAMWriter(sectionID: 2, blocks: blocks)
    let capacity = 1 << 20
    var out: [UInt8] = []
    out.reserveCapacity(capacity + 8192)
    var total = 0
    // SAFETY: a view of initialized bytes, which `page` outlives.
    let span = unsafe page.span.bytes
    for number in order {
      let offset = UInt64(number) << UInt64(Page.shift)
      if copying {
        writer.page(block: 0, offset: offset, bytes: span, into: &out)
      } else {
        writer.pageHeader(block: 0, offset: offset, into: &out)
      }
      if out.count >= capacity {
        total += out.count
        out.removeAll(keepingCapacity: true)
      }
    }
    return total + out.count
  }
}

/// Looks at record headers only.
struct CountingVisitor: StreamVisitor {
  var pages = 0
  var offsets: UInt64 = 0
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    pages &+= 1
    offsets ^= offset
  }
}

/// Looks at every byte of every page.
struct ScanningVisitor: StreamVisitor {
  var pages = 0
  var zeroPages = 0
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    pages &+= 1
    if bytes.isAllZero { zeroPages &+= 1 }
  }
}

/// Copies every page to its place in a guest's memory.
struct PlacingVisitor: StreamVisitor {
  var pages = 0
  var memory: [UInt8]
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    pages &+= 1
    let start = Int(offset)
    // SAFETY: the reader's offsets are inside the block, whose length `memory` has.
    unsafe memory.withUnsafeMutableBytes { target in
      unsafe bytes.withUnsafeBytes { source in
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[start..<(start + Page.size)])
          .copyMemory(from: source)
      }
    }
  }
}

extension StreamVisitor {
  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {}
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) {}
  mutating func zeroPage(block: Int, offset: UInt64) {}
  mutating func ramPartEnded() {}
  mutating func ramEndBegan() {}
  mutating func ramEnded() {}
  mutating func tail(_ bytes: RawSpan) {}
  mutating func ended(descriptionLength: Int) {}
  mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {}
}
