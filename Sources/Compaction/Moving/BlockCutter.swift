import Base

/// Cuts what is written to a disk, in pieces of any length, into its blocks of 4096 bytes.
public struct BlockCutter: Sendable {
  /// What a piece changes about what is known of the disk's blocks.
  public enum Change: Sendable, Hashable {
    /// The block holds content with this hash from now on.
    case holds(block: UInt64, hash: UInt64)
    /// Nobody can say what these blocks hold now.
    case unknown(Range<UInt64>)
  }

  private let seed: UInt64
  /// The beginning of a block whose end has not come yet.
  private var part: [UInt8] = []
  /// Where that goes on, in bytes from the start of the disk.
  private var partEnd: UInt64 = 0

  /// - Parameter seed: of the hashes, see `SentMemory.hash`.
  public init(seed: UInt64) { self.seed = seed }

  /// Takes a piece that is written from `offset` on, and adds what it changes to `changes`.
  ///
  /// A block is known when all of it comes in one piece or in pieces that follow one another.
  public mutating func take(_ bytes: RawSpan, at offset: UInt64, into changes: inout [Change]) {
    guard !offset.addingReportingOverflow(UInt64(bytes.byteCount)).overflow else { return }
    if partEnd != offset { part.removeAll(keepingCapacity: true) }
    var place = 0
    let within = Int(offset % UInt64(Page.size))
    if within > 0 {
      place = min(Page.size - within, bytes.byteCount)
      let block = offset / UInt64(Page.size)
      if part.isEmpty {
        changes.append(.unknown(block..<block + 1))
      } else {
        part.append(contentsOf: bytes.extracting(..<place))
        partEnd = offset + UInt64(place)
        guard part.count == Page.size else { return }
        changes.append(.holds(block: block, hash: Self.hash(part, seed)))
        part.removeAll(keepingCapacity: true)
      }
    }
    var block = (offset + UInt64(place)) / UInt64(Page.size)
    while bytes.byteCount - place >= Page.size {
      let page = bytes.extracting(place..<place + Page.size)
      changes.append(.holds(block: block, hash: SentMemory.hash(page, seed: seed)))
      place += Page.size
      block += 1
    }
    guard place < bytes.byteCount else { return }
    part.append(contentsOf: bytes.extracting(place...))
    partEnd = offset + UInt64(bytes.byteCount)
    changes.append(.unknown(block..<block + 1))
  }

  /// A range is changed, and nothing of its content is known.
  public mutating func clear(offset: UInt64, length: UInt64, into changes: inout [Change]) {
    part.removeAll(keepingCapacity: true)
    let (end, overflow) = offset.addingReportingOverflow(length)
    guard length > 0, !overflow else { return }
    let first = offset / UInt64(Page.size)
    changes.append(.unknown(first..<(end - 1) / UInt64(Page.size) + 1))
  }

  private static func hash(_ page: [UInt8], _ seed: UInt64) -> UInt64 {
    unsafe SentMemory.hash(page.span.bytes, seed: seed)
  }
}
