public import Base
public import Wire

/// Makes pages of encoded batches. Input is hostile: nothing is written beyond the pages that the header,
/// which is checked, announces. For one thread at a time.
@safe
public final class BatchUnpacker: @unchecked Sendable {
  // Unchecked: one owner at a time; handed over between threads through a lock.
  private let decompressor = PageDecompressor()
  private let unpacked: UnsafeMutableRawBufferPointer

  /// Takes 512 KiB, and the decompressors' own memory, as long as it lives.
  public init() {
    unsafe unpacked = .allocate(byteCount: BatchLimits.rawPagesMax * Page.size, alignment: 64)
  }

  deinit { unsafe unpacked.deallocate() }

  /// Fills one place of 4096 bytes in `pages` for each page of the batch that is not zero.
  ///
  /// Returns the pages, by their places, that have to be made of what is there: the place of a delta holds the
  /// difference, those of the others nothing new.
  public func unpack(
    _ header: EncodedHeader, _ body: RawSpan, into pages: UnsafeMutableRawBufferPointer
  ) throws(DecodeError) -> [(place: Int, reference: PageReference)] {
    var references: [(place: Int, reference: PageReference)] = []
    precondition(pages.count >= header.kinds.count * Page.size)
    var notes = ByteCursor(body)
    let noteBytes = try notes.take(header.noteByteCount)
    let packed = try notes.take(header.packedByteCount)
    var raw = ByteCursor(try notes.take(header.rawByteCount))
    notes = ByteCursor(noteBytes)
    var heldDigest: [UInt8] = []
    heldDigest.append(contentsOf: try notes.take(header.heldDigestByteCount))
    let unpackedCount = header.unpackedByteCount
    if unpackedCount > 0 {
      // SAFETY: at most `rawPagesMax` pages, so it is a part of the buffer; the pointer stays inside.
      let target = unsafe UnsafeMutableRawBufferPointer(rebasing: unpacked[..<unpackedCount])
      let result = unsafe packed.withUnsafeBytes { source -> Result<Void, DecodeError> in
        Result { () throws(DecodeError) in
          try unsafe decompressor.decompress(source, header.codec, into: target)
        }
      }
      try result.get()
    }
    var nextUnpacked = 0
    for (index, kind) in header.kinds.enumerated() {
      // SAFETY: in bounds by the precondition; the caller keeps the buffer for the call.
      let page = unsafe UnsafeMutableRawBufferPointer(
        rebasing: pages[index * Page.size..<(index + 1) * Page.size])
      switch kind {
      case .raw:
        let bytes = try raw.take(Page.size)
        unsafe bytes.withUnsafeBytes { unsafe page.copyMemory(from: $0) }
      case .uniform:
        let word: UInt64 = try notes.readBE()
        for offset in stride(from: 0, to: Page.size, by: 8) {
          unsafe page.storeBytes(of: word.bigEndian, toByteOffset: offset, as: UInt64.self)
        }
      case .compressed, .delta:
        unsafe page.copyMemory(
          from: UnsafeRawBufferPointer(rebasing: unpacked[nextUnpacked..<nextUnpacked + Page.size]))
        nextUnpacked += Page.size
        guard kind == .delta else { continue }
        references.append((index, .delta(check: try notes.readBE())))
      case .duplicate:
        references.append((index, .duplicate(try DuplicateNote(decoding: &notes))))
      case .held: references.append((index, .held(proof: heldDigest)))
      case .disk: references.append((index, .disk(try DiskNote(decoding: &notes))))
      case .gang: references.append((index, .gang(try GangNote(decoding: &notes))))
      case .vault: references.append((index, .vault(try VaultNote(decoding: &notes))))
      }
    }
    return references
  }
}
