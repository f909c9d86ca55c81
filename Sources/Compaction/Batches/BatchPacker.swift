import Base
public import Wire

/// A batch as it goes over the network.
public struct PackedBatch: Sendable {
  public private(set) var header: EncodedHeader
  /// Notes and the packed part. The raw pages' bytes follow on the wire.
  public private(set) var lead: [UInt8]
  /// Which of the batch's pages are raw, by their number among those that are not zero; rising.
  public let rawPages: [Int]
  /// Identities of the pages that a snapshot at the destination holds, one after the other, while the digest over
  /// them is missing from `lead`.
  public private(set) var heldIdentities: [UInt8] = []

  /// The frame refers to what the frame `sequence`, before it, brings.
  public mutating func wait(for sequence: UInt64) {
    let place = header.batch.place
    guard sequence > place.after else { return }
    precondition(sequence < place.sequence)
    header = EncodedHeader(
      batch: BatchHeader(
        place: SequencedHeader(sequence: place.sequence, after: sequence), runs: header.batch.runs),
      codec: header.codec, kinds: header.kinds, packedByteCount: header.packedByteCount)
  }

  /// Puts the digest over `heldIdentities` in its place.
  public mutating func prove(_ digest: [UInt8]) {
    precondition(digest.count == header.heldDigestByteCount && !heldIdentities.isEmpty)
    lead = digest + lead
    heldIdentities = []
  }

  /// Bytes saved; at most 0 when the batch had better go as it is.
  public var savedBytes: Int {
    (header.kinds.count - rawPages.count) * Page.size - lead.count
      - (header.byteCount - header.batch.byteCount)
  }
}

/// Writes batches in the smallest form that the effort allows. For one thread at a time: it keeps the
/// compressors' memory and its buffers from batch to batch.
@safe
public final class BatchPacker {
  /// A packed part must be this much smaller than its pages, in sixteenths, else they go raw.
  static let gainMinSixteenths = 1

  private let compressor = PageCompressor()
  private let gathered: UnsafeMutableRawBufferPointer
  private let packed: UnsafeMutableRawBufferPointer

  /// Takes some 1 MiB of buffers, and the compressors' own memory, as long as it lives.
  public init() {
    let bytes = BatchLimits.rawPagesMax * Page.size
    unsafe gathered = .allocate(byteCount: bytes, alignment: 64)
    unsafe packed = .allocate(byteCount: PageCompressor.bound(bytes), alignment: 64)
  }

  deinit {
    unsafe gathered.deallocate()
    unsafe packed.deallocate()
  }

  /// Says how a page, given by its number among those that are not zero, is made of what the destination has;
  /// nil: it is not. A difference is written to the 4096 bytes.
  public typealias References = (Int, RawSpan, UnsafeMutableRawBufferPointer) -> PageReference?

  /// - Parameters:
  ///   - batch: place and runs, as they would go without encoding.
  ///   - pages: 4096 bytes for each page that is not zero, in the order of the runs.
  ///   - mayRefer: without effort, references are looked for all the same.
  public func pack(
    _ batch: BatchHeader, _ pages: RawSpan, _ effort: Effort,
    mayRefer: Bool = false, references: References = { _, _, _ in nil }
  ) -> PackedBatch {
    let count = batch.rawPageCount
    precondition(pages.byteCount >= count * Page.size && count <= BatchLimits.rawPagesMax)
    var kinds = [PageKind](repeating: .raw, count: count)
    var lead: [UInt8] = []
    var held: [UInt8] = []
    var gatheredPages = 0
    for index in 0..<count where effort != .off || mayRefer {
      let page = pages.extracting(index * Page.size..<(index + 1) * Page.size)
      if let word = PageTexture.uniformWord(page) {
        kinds[index] = .uniform
        lead.appendBE(UInt64(bigEndian: word))
      } else if let reference = unsafe references(index, page, place(gatheredPages)) {
        switch reference {
        case .delta(let check):
          kinds[index] = .delta
          lead.appendBE(check)
          gatheredPages += 1
        case .duplicate(let note):
          kinds[index] = .duplicate
          note.encode(into: &lead)
        case .held(let identity):
          kinds[index] = .held
          held += identity
        case .disk(let note):
          kinds[index] = .disk
          note.encode(into: &lead)
        case .gang(let note):
          kinds[index] = .gang
          note.encode(into: &lead)
        case .vault(let note):
          kinds[index] = .vault
          note.encode(into: &lead)
        }
      } else if effort != .off, PageTexture.looksPackable(page) {
        kinds[index] = .compressed
        gather(page, at: gatheredPages)
        gatheredPages += 1
      }
    }
    let packedCount = compress(pages: gatheredPages, effort)
    if packedCount == 0 { Self.unpack(&kinds, &lead) }
    lead.append(contentsOf: packedBytes(packedCount))
    let header = EncodedHeader(
      batch: batch, codec: packedCount > 0 ? effort.codec : .none, kinds: kinds,
      packedByteCount: packedCount)
    return PackedBatch(
      header: header, lead: lead, rawPages: kinds.indices.filter { kinds[$0] == .raw },
      heldIdentities: held)
  }

  /// Nothing is packed after all: such pages go raw, and their notes are left out.
  private static func unpack(_ kinds: inout [PageKind], _ lead: inout [UInt8]) {
    let notes = lead
    lead.removeAll(keepingCapacity: true)
    var start = 0
    for index in kinds.indices {
      let end = start + kinds[index].noteByteCount
      if kinds[index].isPacked { kinds[index] = .raw } else { lead += notes[start..<end] }
      start = end
    }
  }

  /// Where the next page to be compressed goes.
  private func place(_ index: Int) -> UnsafeMutableRawBufferPointer {
    // SAFETY: at most `rawPagesMax` pages are gathered; the slice checks it.
    unsafe UnsafeMutableRawBufferPointer(
      rebasing: gathered[index * Page.size..<(index + 1) * Page.size])
  }

  private func gather(_ page: RawSpan, at index: Int) {
    unsafe page.withUnsafeBytes { unsafe place(index).copyMemory(from: $0) }
  }

  /// Compresses what is gathered; 0 when that gains too little.
  private func compress(pages: Int, _ effort: Effort) -> Int {
    let bytes = pages * Page.size
    guard bytes > 0 else { return 0 }
    // SAFETY: `bytes` were gathered; both buffers live as long as self.
    let count = unsafe compressor.compress(
      UnsafeRawBufferPointer(rebasing: gathered[..<bytes]), into: packed, effort)
    guard let count, count <= bytes - bytes / 16 * Self.gainMinSixteenths else { return 0 }
    return count
  }

  @_lifetime(borrow self)
  private func packedBytes(_ count: Int) -> RawSpan {
    // SAFETY: the compressor wrote that many bytes; self outlives the span.
    let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: packed[..<count]))
    return unsafe _overrideLifetime(span, borrowing: self)
  }
}
