public import Base

/// Makes post-copy of a pre-copy stream, for a destination with the capabilities `postcopy-ram` and
/// `return-path`; the source's QEMU knows nothing of it.
///
/// The destination gets, in this order: the source's header and configuration, `advise`, RAM's START
/// and the pages sent so far, `discard` for all pages that are not there or not current, `start` with
/// the device state, then one or more parts with the missing pages in any order, each exactly once,
/// and `end` behind the last. QEMU dies of a page that comes twice.
public struct PostcopyWriter: Sendable {
  /// Why there is no post-copy of this guest.
  public enum Refusal: Error, Hashable, Sendable {
    /// Memory of larger pages: these must be placed whole, and in order.
    case largePages(block: String)
    /// The length field of a package has 32 bits.
    case deviceStateTooLong(byteCount: Int)
  }

  private var ram: RAMWriter
  private var isInPart = false

  /// - Parameters:
  ///   - sectionID: of RAM's START section, as the source sent it.
  ///   - blocks: as in it.
  public init(sectionID: UInt32, blocks: [RAMBlock]) throws(Refusal) {
    for block in blocks {
      if let size = block.pageSize, size != UInt64(Page.size) {
        throw .largePages(block: block.name)
      }
    }
    ram = RAMWriter(sectionID: sectionID, blocks: blocks)
  }

  /// What comes before RAM's START: post-copy may follow, in pages of 4 KiB.
  ///
  /// - Parameter opensReturnPath: false where the source's own stream has had that command.
  public static func advise(opensReturnPath: Bool, into out: inout [UInt8]) {
    if opensReturnPath { StreamCommand.openReturnPath.encode(into: &out) }
    let size = UInt64(Page.size)
    StreamCommand.postcopyAdvise(.init(summary: size, targetPage: size)).encode(into: &out)
  }

  /// Makes the destination forget pages of a block, so that the guest faults on them: all that were
  /// never sent and all that are stale. A page that is neither discarded nor absent is used as it is.
  ///
  /// - Parameters:
  ///   - pages: one bit per page; the block's first is number `base`.
  ///   - range: numbers to look at, all of the block. `out` grows with the runs in it, so that
  ///     a large block is best done in parts.
  public func discard(
    block: Int, _ pages: PageBitmap, base: Int, range: Range<Int>, into out: inout [UInt8]
  ) {
    let name = ram.blocks[block].name
    var ranges: [StreamCommand.DiscardRange] = []
    var next = range.lowerBound
    while let first = pages.first(atOrAfter: next), first < range.upperBound {
      let run = pages.run(from: first, limit: range.upperBound - first)
      ranges.append(
        StreamCommand.DiscardRange(
          start: UInt64(first - base) << UInt64(Page.shift),
          length: UInt64(run.count) << UInt64(Page.shift)))
      next = run.upperBound
      if ranges.count == StreamCommand.discardRangeCountMax {
        StreamCommand.ramDiscard(block: name, ranges: ranges).encode(into: &out)
        ranges.removeAll(keepingCapacity: true)
      }
    }
    guard !ranges.isEmpty else { return }
    StreamCommand.ramDiscard(block: name, ranges: ranges).encode(into: &out)
  }

  /// Hands over: listen for pages, load the devices, run. A destination that was started with `-S`
  /// waits for `cont` behind it.
  public mutating func start(
    _ state: DeviceState, into out: inout [UInt8]
  ) throws(Refusal) {
    var package: [UInt8] = []
    StreamCommand.postcopyListen.encode(into: &package)
    package += state.bytes
    StreamCommand.postcopyRun.encode(into: &package)
    guard let length = UInt32(exactly: package.count) else {
      throw .deviceStateTooLong(byteCount: package.count)
    }
    StreamCommand.packaged(length: length).encode(into: &out)
    out += package
    ram.resetContinuation()
  }

  /// One missing page of 4096 bytes; opens a part where none is open.
  public mutating func page(block: Int, offset: UInt64, bytes: RawSpan, into out: inout [UInt8]) {
    beginPart(&out)
    ram.page(block: block, offset: offset, bytes: bytes, into: &out)
  }

  /// As `page`, for a caller that writes the bytes itself (`writev`).
  public mutating func pageHeader(block: Int, offset: UInt64, into out: inout [UInt8]) {
    beginPart(&out)
    ram.pageHeader(block: block, offset: offset, into: &out)
  }

  /// One missing page of zeros.
  public mutating func zeroPage(block: Int, offset: UInt64, into out: inout [UInt8]) {
    beginPart(&out)
    ram.zeroPage(block: block, offset: offset, into: &out)
  }

  /// Every page is there: the end of the stream.
  public mutating func end(into out: inout [UInt8]) {
    if isInPart { ram.endSection(into: &out) }
    isInPart = false
    ram.beginEnd(into: &out)
    ram.endSection(into: &out)
    StreamItemWriter.end(into: &out)
  }

  private mutating func beginPart(_ out: inout [UInt8]) {
    guard !isInPart else { return }
    isInPart = true
    ram.beginPart(into: &out)
  }
}
