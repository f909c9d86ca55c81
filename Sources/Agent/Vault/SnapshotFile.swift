import Base
import Compaction
import HostIO
import Wire

/// A finished snapshot's file, open for reading. Its content is hostile until it is proven.
final class SnapshotFile: Sendable {
  let path: String
  let head: VaultHead
  let end: VaultEnd
  let layout: VaultLayout
  /// Bytes that it takes on the disk.
  var byteCount: UInt64 { storage.fileByteCount }
  private let storage: SnapshotStorage

  /// - Parameter secret: the host's key; nil: it has none.
  init(path: String, secret: VaultSecret? = nil) throws {
    self.path = path
    let storage = try SnapshotStorage(path: path, secret: secret)
    self.storage = storage
    let size = storage.byteCount
    do {
      let short = DecodeError(.truncated, in: "snapshot", at: 0, found: size)
      guard size >= UInt64(VaultHead.fixedByteCount + VaultEnd.byteCount) else { throw short }
      let fixed = try storage.read(at: 0, count: VaultHead.fixedByteCount)
      let headByteCount = try unsafe VaultHead.byteCount(fixed: fixed.span.bytes)
      guard size >= UInt64(headByteCount + VaultEnd.byteCount) else { throw short }
      let headBytes = try storage.read(at: 0, count: headByteCount)
      head = try unsafe VaultHead(decoding: headBytes.span.bytes)
      let tail = try storage.read(
        at: size - UInt64(VaultEnd.byteCount), count: VaultEnd.byteCount)
      end = try unsafe VaultEnd(decoding: tail.span.bytes)
      layout = try VaultLayout(
        head: head, headByteCount: headByteCount, end: end, fileByteCount: size)
    } catch let error as DecodeError {
      throw VaultError.damaged(path: path, error)
    }
  }

  /// Whether it takes the host's key to read it.
  var isSealed: Bool { storage.isSealed }

  /// Keys and filters of all stored pages, in order; `visit` gets a segment's at a time.
  func lookups(_ visit: ([(key: VaultKey, filter: UInt64)]) throws -> Void) throws {
    var last: VaultKey?
    for number in 0..<layout.segmentCount {
      let count = layout.pageCount(ofSegment: number)
      let bytes = try read(
        at: layout.segmentOffset(number),
        count: VaultSegment.headByteCount + count * VaultSegment.lookupByteCount)
      let found = try decoded { () throws(DecodeError) in
        try lookups(in: bytes, segment: number, after: last).1
      }
      last = found.last?.key
      try visit(found)
    }
  }

  /// A segment's head, and its keys and filters, from the bytes that it begins with.
  private func lookups(
    in bytes: [UInt8], segment number: UInt64, after last: VaultKey?
  ) throws(DecodeError) -> (VaultSegment, [(key: VaultKey, filter: UInt64)]) {
    let count = layout.pageCount(ofSegment: number)
    var cursor = unsafe ByteCursor(bytes.span.bytes)
    let segment = try VaultSegment(decoding: &cursor)
    guard segment.pageCount == count,
      segment.firstIndex == number * UInt64(VaultLimits.segmentPages)
    else {
      throw DecodeError(
        .outOfOrder, in: "segment", at: layout.segmentOffset(number), found: segment.firstIndex)
    }
    let lookups = try cursor.take(count * VaultSegment.lookupByteCount)
    return (segment, try segment.lookups(lookups, in: head, after: last))
  }

  /// Reads everything and compares it with its checksums, filters and identities.
  ///
  /// - Parameter isCalledOff: asked now and then.
  func verify(isCalledOff: () -> Bool) throws {
    var last: VaultKey?
    for number in 0..<layout.segmentCount {
      guard !isCalledOff() else { throw VaultError.calledOff }
      let count = layout.pageCount(ofSegment: number)
      let bytes = try read(
        at: layout.segmentOffset(number), count: VaultSegment.byteCount(pages: count))
      last = try decoded { () throws(DecodeError) in
        let (segment, lookups) = try self.lookups(in: bytes, segment: number, after: last)
        try verify(segment, lookups.map(\.filter), bytes, at: layout.segmentOffset(number))
        return lookups.last?.key
      }
    }
  }

  private func verify(
    _ segment: VaultSegment, _ filters: [UInt64], _ bytes: [UInt8], at offset: UInt64
  ) throws(DecodeError) {
    let count = segment.pageCount
    let all = unsafe bytes.span.bytes
    let identities = all.extracting(
      VaultSegment.identitiesOffset(pages: count)..<VaultSegment.contentsOffset(pages: count))
    let contents = all.extracting(VaultSegment.contentsOffset(pages: count)...)
    let checksum = FrameChecksum.of(identities, contents)
    guard checksum == segment.contentChecksum else {
      throw DecodeError(
        .badChecksum, in: "contents of a segment", at: offset, found: segment.contentChecksum,
        limit: checksum)
    }
    var known = ByteCursor(identities)
    for page in 0..<count {
      let content = contents.extracting(page * Page.size..<(page + 1) * Page.size)
      var identity: [UInt8] = []
      identity.append(contentsOf: try known.take(VaultSegment.identityByteCount))
      guard PageIdentity.bytes(of: content) == identity,
        SentMemory.hash(content, seed: head.seed) == filters[page]
      else {
        throw DecodeError(.badValue, in: "identity of a page", at: offset, found: UInt64(page))
      }
    }
  }

  /// Copies the content of a stored page, by its number among them.
  func read(_ index: UInt64, into page: UnsafeMutableRawBufferPointer) throws(SystemError) {
    try unsafe storage.read(at: layout.contentOffset(index), into: page)
  }

  /// A stored page is about to be read: several such calls let the disk read many at once.
  func willNeed(_ index: UInt64) {
    storage.willNeed(at: layout.contentOffset(index), count: Page.size)
  }

  private func decoded<T>(_ body: () throws(DecodeError) -> T) throws -> T {
    do { return try body() } catch { throw VaultError.damaged(path: path, error) }
  }

  private func read(at offset: UInt64, count: Int) throws -> [UInt8] {
    try storage.read(at: offset, count: count)
  }
}
