public import Base

/// Everything of an `encodedPages` frame but what the pages hold.
///
/// Layout: sequence u64, after u64, run count u32, codec u8, reserved u8 (0), pages that are not zero u16,
/// bytes of the packed part u32, runs of 16 bytes, one `PageKind` u8 for each page that is not zero. Then
/// the body: notes in the order of the pages, the packed part, 4096 bytes for each raw page.
///
/// Where pages are held in a snapshot, the notes begin with 32 bytes: SHA-256 over the identities (SHA-256) of
/// those pages, in their order.
///
/// The runs are those of a `BatchHeader`: they tell zeros from the rest. The packed part holds 4096 bytes
/// for each compressed and each delta page, and is never longer than that.
public struct EncodedHeader: Sendable, Hashable {
  /// What comes before the runs, in bytes.
  public static let fixedByteCount = SequencedHeader.byteCount + 12
  public static let byteCountMax =
    fixedByteCount + BatchLimits.runsMax * PageRun.byteCount + BatchLimits.rawPagesMax
  /// Every page raw, and the longest note for each: more than any honest body has.
  public static let bodyBytesMax =
    BatchLimits.rawPagesMax * (Page.size + DuplicateNote.byteCount)

  public let batch: BatchHeader
  public let codec: PageCodec
  /// Of the pages that are not zero, in the order of the runs.
  public let kinds: [PageKind]
  public let packedByteCount: Int

  /// - Precondition: one kind for each raw page of `batch`.
  public init(batch: BatchHeader, codec: PageCodec, kinds: [PageKind], packedByteCount: Int) {
    precondition(kinds.count == batch.rawPageCount)
    (self.batch, self.codec, self.kinds) = (batch, codec, kinds)
    self.packedByteCount = packedByteCount
  }

  /// Bytes of all notes, and of the digest in front of them.
  public var noteByteCount: Int { kinds.reduce(heldDigestByteCount) { $0 + $1.noteByteCount } }
  /// Bytes of the digest in front of the notes: none without pages that are held in a snapshot.
  public var heldDigestByteCount: Int {
    kinds.contains(.held) ? DuplicateNote.identityByteCount : 0
  }
  /// Whether all of its pages are made of the frame alone, whatever the destination has: all that a pull takes.
  public var isSelfContained: Bool { !kinds.contains(where: \.isReference) }
  /// Bytes that the packed part unpacks to.
  public var unpackedByteCount: Int { kinds.reduce(0) { $0 + ($1.isPacked ? Page.size : 0) } }
  /// Bytes of the pages that travel as they are, behind the packed part.
  public var rawByteCount: Int { kinds.reduce(0) { $0 + ($1 == .raw ? Page.size : 0) } }
  /// Bytes that follow the header.
  public var bodyByteCount: Int { noteByteCount + packedByteCount + rawByteCount }
  /// Bytes of the header itself: the fixed part, the runs and the kinds.
  public var byteCount: Int {
    Self.fixedByteCount + batch.runs.count * PageRun.byteCount + kinds.count
  }

  /// How many bytes of runs and kinds follow the fixed part, which `bytes` begins with.
  public static func variableByteCount(fixed bytes: RawSpan) throws(DecodeError) -> Int {
    var cursor = ByteCursor(bytes)
    _ = try cursor.take(SequencedHeader.byteCount)
    let runCount = Int(try cursor.readBE(UInt32.self))
    _ = try cursor.readBE(UInt16.self)
    let pageCount = Int(try cursor.readBE(UInt16.self))
    guard runCount <= BatchLimits.runsMax, pageCount <= BatchLimits.rawPagesMax else {
      throw DecodeError(
        .overLimit, in: "runs of an encoded batch", at: 16, found: UInt64(runCount),
        limit: UInt64(BatchLimits.runsMax))
    }
    return runCount * PageRun.byteCount + pageCount
  }

  /// Decodes a payload's header and checks that exactly its body follows.
  ///
  /// - Parameter bodyBytes: bytes that follow the header, where the cursor does not hold them.
  public init(decoding cursor: inout ByteCursor, bodyBytes: Int? = nil) throws(DecodeError) {
    let place = try SequencedHeader(decoding: &cursor)
    let runCount = Int(try cursor.readBE(UInt32.self))
    let rawCodec = try cursor.readBE(UInt8.self)
    let reserved = try cursor.readBE(UInt8.self)
    guard let codec = PageCodec(rawValue: rawCodec), reserved == 0 else {
      throw DecodeError(.badValue, in: "codec of a batch", at: 20, found: UInt64(rawCodec))
    }
    let pageCount = Int(try cursor.readBE(UInt16.self))
    let packed = Int(try cursor.readBE(UInt32.self))
    let runs = try BatchHeader.runs(runCount, decoding: &cursor)
    guard pageCount == runs.rawPageCount else {
      throw DecodeError(
        .badValue, in: "pages of an encoded batch", at: 22, found: UInt64(pageCount),
        limit: UInt64(runs.rawPageCount))
    }
    var kinds: [PageKind] = []
    kinds.reserveCapacity(pageCount)
    for _ in 0..<pageCount {
      let raw = try cursor.readBE(UInt8.self)
      guard let kind = PageKind(rawValue: raw) else {
        throw DecodeError(
          .badValue, in: "kind of a page", at: UInt64(cursor.position - 1), found: UInt64(raw))
      }
      kinds.append(kind)
    }
    batch = BatchHeader(place: place, runs: runs)
    (self.codec, self.kinds, packedByteCount) = (codec, kinds, packed)
    try check(bodyBytes ?? cursor.remaining, at: UInt64(cursor.position))
  }

  /// What is packed must be smaller than what it stands for; the body is as long as all of it says.
  private func check(_ following: Int, at position: UInt64) throws(DecodeError) {
    let unpacked = unpackedByteCount
    let isSound =
      codec == .none
      ? unpacked == 0 && packedByteCount == 0 : packedByteCount > 0 && packedByteCount < unpacked
    guard isSound else {
      throw DecodeError(
        .overLimit, in: "packed part of a batch", at: 24, found: UInt64(clamping: packedByteCount),
        limit: UInt64(unpacked))
    }
    guard following == bodyByteCount else {
      throw DecodeError(
        .truncated, in: "body of an encoded batch", at: position,
        found: UInt64(clamping: following), limit: UInt64(bodyByteCount))
    }
  }

  /// Appends the header only; the body must follow, `bodyByteCount` bytes of it.
  public func encode(into out: inout [UInt8]) {
    batch.place.encode(into: &out)
    out.appendBE(UInt32(truncatingIfNeeded: batch.runs.count))  // <= runsMax
    out.append(codec.rawValue)
    out.append(0)
    out.appendBE(UInt16(truncatingIfNeeded: kinds.count))  // <= rawPagesMax
    out.appendBE(UInt32(truncatingIfNeeded: packedByteCount))  // < rawPagesMax pages
    for run in batch.runs { run.encode(into: &out) }
    for kind in kinds { out.append(kind.rawValue) }
  }
}
