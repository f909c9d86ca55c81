import Base
import Compaction
import Testing
import Wire

@Suite struct BatchPackingTests {
  /// Pages of every sort that guests have.
  static func page(_ sort: Int, _ random: inout SplitMix64) -> [UInt8] {
    switch sort {
    case 0: return [UInt8](repeating: UInt8.random(in: 1...255, using: &random), count: Page.size)
    case 1:
      let word = (0..<8).map { _ in UInt8.random(in: 0...255, using: &random) }
      return (0..<Page.size).map { word[$0 & 7] }
    case 2: return (0..<Page.size).map { _ in UInt8.random(in: 0...255, using: &random) }
    case 3:
      let text = Array("a guest's memory is mostly like this, \(random.next() % 1000). ".utf8)
      return (0..<Page.size).map { text[$0 % text.count] }
    case 4:
      // All but uniform: one byte differs.
      var page = [UInt8](repeating: 7, count: Page.size)
      page[Int.random(in: 0..<Page.size, using: &random)] = 8
      return page
    default: return [UInt8](repeating: 0, count: Page.size)
    }
  }

  struct Sample {
    let batch: BatchHeader
    let pages: [UInt8]
  }

  static func sample(seed: UInt64, sorts: ClosedRange<Int> = 0...5) -> Sample {
    var random = SplitMix64(seed: seed)
    let count = seed == 1 ? BatchLimits.rawPagesMax : Int.random(in: 1...24, using: &random)
    var pages: [UInt8] = []
    for _ in 0..<count { pages += page(Int.random(in: sorts, using: &random), &random) }
    var runs = [PageRun(block: 1, pageClass: .zero, firstPage: 3, count: 7)]
    let first = UInt32.random(in: 1...UInt32(count), using: &random)
    runs.append(PageRun(block: 0, pageClass: .raw, firstPage: 100, count: first))
    if Int(first) < count {
      runs.append(
        PageRun(block: 0, pageClass: .raw, firstPage: 900, count: UInt32(count) - first))
    }
    return Sample(
      batch: BatchHeader(place: SequencedHeader(sequence: 9, after: 4), runs: runs), pages: pages)
  }

  /// The payload of an `encodedPages` frame.
  static func payload(_ packed: PackedBatch, _ pages: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    packed.header.encode(into: &bytes)
    bytes += packed.lead
    for page in packed.rawPages { bytes += pages[page * Page.size..<(page + 1) * Page.size] }
    return bytes
  }

  static func unpack(_ payload: [UInt8]) throws -> [UInt8] {
    var cursor = ByteCursor(payload.span.bytes)
    let header = try EncodedHeader(decoding: &cursor)
    var pages = [UInt8](repeating: 0xAA, count: header.kinds.count * Page.size)
    let body = try cursor.take(header.bodyByteCount)
    let references = try pages.withUnsafeMutableBytes {
      try BatchUnpacker().unpack(header, body, into: $0)
    }
    #expect(references.isEmpty == header.isSelfContained)
    return pages
  }

  @Test(arguments: UInt64(1)...20) func everyEffortComesBackAsItWas(seed: UInt64) throws {
    let sample = Self.sample(seed: seed)
    let packer = BatchPacker()
    for effort in Effort.allCases {
      let packed = packer.pack(sample.batch, sample.pages.span.bytes, effort)
      let payload = Self.payload(packed, sample.pages)
      #expect(payload.count == packed.header.byteCount + packed.header.bodyByteCount)
      #expect(payload.count <= FrameHeader.payloadLimit(.encodedPages))
      #expect(try Self.unpack(payload) == sample.pages, "\(effort), seed \(seed)")
      var cursor = ByteCursor(payload.span.bytes)
      #expect(try EncodedHeader(decoding: &cursor) == packed.header)
    }
  }

  @Test func eachSortOfPageGoesInItsClass() {
    var random = SplitMix64(seed: 3)
    let pages = (0..<5).flatMap { Self.page($0, &random) }
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 5)])
    let packed = BatchPacker().pack(batch, pages.span.bytes, .zstd1)
    #expect(packed.header.kinds == [.uniform, .uniform, .raw, .compressed, .compressed])
    #expect(packed.savedBytes > 4 * Page.size - 1024)
    let off = BatchPacker().pack(batch, pages.span.bytes, .off)
    #expect(off.header.kinds.allSatisfy { $0 == .raw } && off.savedBytes <= 0)
  }

  /// Held pages take nothing but one digest; it stands in front of everything.
  @Test func heldPagesAreProvenTogether() throws {
    var random = SplitMix64(seed: 11)
    let pages = [2, 1, 3, 2].flatMap { Self.page($0, &random) }
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 4)])
    for effort in [Effort.off, .lz4, .zstd3] {
      var packed = BatchPacker().pack(
        batch, pages.span.bytes, effort, mayRefer: true
      ) { index, _, _ in
        index == 0 || index == 3 ? .held(proof: [UInt8](repeating: UInt8(index), count: 32)) : nil
      }
      #expect(
        packed.header.kinds == [.held, .uniform, effort == .off ? .raw : .compressed, .held])
      #expect(packed.heldIdentities.count == 64 && packed.heldIdentities.last == 3)
      let digest = [UInt8](100..<132)
      packed.prove(digest)
      let payload = Self.payload(packed, pages)
      #expect(payload.count == packed.header.byteCount + packed.header.bodyByteCount)
      var cursor = ByteCursor(payload.span.bytes)
      let header = try EncodedHeader(decoding: &cursor)
      var made = [UInt8](repeating: 0xAA, count: 4 * Page.size)
      let body = try cursor.take(header.bodyByteCount)
      let found = try made.withUnsafeMutableBytes {
        try BatchUnpacker().unpack(header, body, into: $0)
      }
      #expect(found.map(\.place) == [0, 3])
      #expect(found.allSatisfy { $0.reference == .held(proof: digest) })
      #expect(made[Page.size..<3 * Page.size].elementsEqual(pages[Page.size..<3 * Page.size]))
    }
  }

  @Test func blocksOfDisksGoWithTheirNotes() throws {
    var random = SplitMix64(seed: 11)
    let pages = [2, 3, 2].flatMap { Self.page($0, &random) }
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 3)])
    let notes = [0, 2].map { DiskNote(image: 1, block: UInt64($0), identity: Array(0..<32)) }
    let packed = BatchPacker().pack(batch, pages.span.bytes, .lz4) { index, _, _ in
      index == 1 ? nil : .disk(notes[index / 2])
    }
    #expect(packed.header.kinds[0] == .disk && packed.header.kinds[2] == .disk)
    let payload = Self.payload(packed, pages)
    var cursor = ByteCursor(payload.span.bytes)
    let header = try EncodedHeader(decoding: &cursor)
    var made = [UInt8](repeating: 0xAA, count: 3 * Page.size)
    let body = try cursor.take(header.bodyByteCount)
    let found = try made.withUnsafeMutableBytes {
      try BatchUnpacker().unpack(header, body, into: $0)
    }
    #expect(found.map(\.place) == [0, 2])
    #expect(found.map(\.reference) == notes.map { .disk($0) })
    #expect(made[Page.size..<2 * Page.size].elementsEqual(pages[Page.size..<2 * Page.size]))
  }

  @Test func pagesOfOtherGuestsAndOfSnapshotsGoWithTheirNotes() throws {
    var random = SplitMix64(seed: 12)
    let pages = [2, 3, 2].flatMap { Self.page($0, &random) }
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 3)])
    let notes: [PageReference] = [
      .gang(GangNote(member: 7, block: 1, page: 0, identity: Array(0..<32))),
      .vault(VaultNote(snapshot: 2, page: 1 << 33, identity: Array(1...32))),
    ]
    // Without effort, too.
    let packed = BatchPacker().pack(batch, pages.span.bytes, .off, mayRefer: true) { index, _, _ in
      index == 1 ? nil : notes[index / 2]
    }
    #expect(packed.header.kinds == [.gang, .raw, .vault])
    let payload = Self.payload(packed, pages)
    var cursor = ByteCursor(payload.span.bytes)
    let header = try EncodedHeader(decoding: &cursor)
    var made = [UInt8](repeating: 0xAA, count: 3 * Page.size)
    let body = try cursor.take(header.bodyByteCount)
    let found = try made.withUnsafeMutableBytes {
      try BatchUnpacker().unpack(header, body, into: $0)
    }
    #expect(found.map(\.reference) == notes)
    #expect(made[Page.size..<2 * Page.size].elementsEqual(pages[Page.size..<2 * Page.size]))
  }

  @Test func referencesGoWithTheirNotes() throws {
    var random = SplitMix64(seed: 8)
    let sorts = [3, 1, 3, 2, 3]
    let pages = sorts.flatMap { Self.page($0, &random) }
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 5)])
    let note = DuplicateNote(block: 1, page: 77, identity: Array(0..<32))
    // The page at 2 differs from what it was in one byte; or, to be incompressible, in all.
    func references(
      _ difference: [UInt8]
    ) -> (Int, RawSpan, UnsafeMutableRawBufferPointer) -> PageReference? {
      { index, _, target in
        if index == 0 { return .duplicate(note) }
        guard index == 2 || index == 4 else { return nil }
        target.copyBytes(from: difference)
        return .delta(check: UInt64(index))
      }
    }
    var small = [UInt8](repeating: 0, count: Page.size)
    small[100] = 9
    let packed = BatchPacker().pack(
      batch, pages.span.bytes, .lz4, references: references(small))
    #expect(packed.header.kinds == [.duplicate, .uniform, .delta, .raw, .delta])
    let payload = Self.payload(packed, pages)
    var cursor = ByteCursor(payload.span.bytes)
    let header = try EncodedHeader(decoding: &cursor)
    var made = [UInt8](repeating: 0xAA, count: 5 * Page.size)
    let body = try cursor.take(header.bodyByteCount)
    let found = try made.withUnsafeMutableBytes {
      try BatchUnpacker().unpack(header, body, into: $0)
    }
    #expect(found.map(\.place) == [0, 2, 4])
    #expect(found.map(\.reference) == [.duplicate(note), .delta(check: 2), .delta(check: 4)])
    #expect(Array(made[2 * Page.size..<3 * Page.size]) == small)
    #expect(made[Page.size..<2 * Page.size].elementsEqual(pages[Page.size..<2 * Page.size]))

    // Where nothing can be packed the deltas go raw, and only the duplicate's note is left.
    let noise = [Self.page(2, &random), Self.page(2, &random)]
    let raw = BatchPacker().pack(batch, pages.span.bytes, .lz4) { index, page, target in
      references(noise[index / 4])(index, page, target)
    }
    #expect(raw.header.kinds == [.duplicate, .uniform, .raw, .raw, .raw])
    #expect(raw.lead.count == DuplicateNote.byteCount + 8)
  }

  @Test func whatCannotBeCompressedIsNotTried() {
    var random = SplitMix64(seed: 11)
    let pages = (0..<BatchLimits.rawPagesMax).flatMap { _ in Self.page(2, &random) }
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 128)])
    let packed = BatchPacker().pack(batch, pages.span.bytes, .zstd6)
    #expect(packed.header.codec == .none && packed.rawPages.count == 128)
  }

  /// Slabs of memory have them behind values that may be random.
  @Test(arguments: [Effort.lz4, .zstd1]) func gapsOfZerosAreTried(effort: Effort) {
    var random = SplitMix64(seed: 12)
    var page = Self.page(2, &random)
    page.replaceSubrange(3000..<3500, with: repeatElement(0, count: 500))
    let batch = BatchHeader(
      place: SequencedHeader(sequence: 1, after: 0),
      runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: 1)])
    let packed = BatchPacker().pack(batch, page.span.bytes, effort)
    #expect(packed.rawPages.isEmpty && packed.savedBytes > 350)
  }

  @Test(arguments: UInt64(1)...200) func hostilePayloadsAreRefusedOrBounded(seed: UInt64) throws {
    let sample = Self.sample(seed: seed % 7, sorts: 0...4)
    var random = SplitMix64(seed: seed)
    let effort = Effort.allCases[Int(seed % 5)]
    var payload = Self.payload(
      BatchPacker().pack(sample.batch, sample.pages.span.bytes, effort), sample.pages)
    for _ in 0..<Int.random(in: 1...6, using: &random) {
      let place = Int.random(in: 0..<min(payload.count, 400), using: &random)
      payload[place] = UInt8.random(in: 0...255, using: &random)
    }
    // Either it is refused, or it makes exactly the pages that its header names.
    if let pages = try? Self.unpack(payload) {
      #expect(pages.count <= BatchLimits.rawPagesMax << 12)
    }
    payload.removeLast()
    #expect(throws: DecodeError.self) { try Self.unpack(payload) }
  }

  @Test func aBombUnpacksToWhatTheHeaderSaysOrNotAtAll() throws {
    // 128 pages of one text compress to almost nothing; a header that names fewer pages refuses them.
    var random = SplitMix64(seed: 5)
    let page = Self.page(3, &random)
    let pages = (0..<128).flatMap { _ in page }
    func batch(_ count: UInt32) -> BatchHeader {
      BatchHeader(
        place: SequencedHeader(sequence: 1, after: 0),
        runs: [PageRun(block: 0, pageClass: .raw, firstPage: 0, count: count)])
    }
    for effort in [Effort.lz4, .zstd1] {
      let packed = BatchPacker().pack(batch(128), pages.span.bytes, effort)
      for count in [2, 127] {
        let lie = EncodedHeader(
          batch: batch(UInt32(count)), codec: packed.header.codec,
          kinds: Array(repeating: .compressed, count: count),
          packedByteCount: packed.header.packedByteCount)
        var bytes: [UInt8] = []
        lie.encode(into: &bytes)
        #expect(throws: DecodeError.self) { try Self.unpack(bytes + packed.lead) }
      }
    }
  }
}
