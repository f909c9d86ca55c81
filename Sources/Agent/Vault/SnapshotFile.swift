import Base
import Compaction
import Glibc
import HostIO
import Wire

/// A finished snapshot's file, open for reading. Its content is hostile until it is proven.
final class SnapshotFile: Sendable {
  let path: String
  let head: VaultHead
  let end: VaultEnd
  let layout: VaultLayout
  /// Bytes that it takes on the disk.
  var byteCount: UInt64 { layout.byteCount }
  private let descriptor: Descriptor

  init(path: String) throws {
    self.path = path
    // SAFETY: the path is a NUL-terminated copy for the call.
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard raw >= 0 else { throw SystemError("open \(path)") }
    descriptor = Descriptor(owning: raw)
    var status = stat()
    // SAFETY: `status` lives for the call.
    guard unsafe fstat(raw, &status) == 0 else { throw SystemError("look at \(path)") }
    let size = UInt64(clamping: status.st_size)
    do {
      let short = DecodeError(.truncated, in: "snapshot", at: 0, found: size)
      guard size >= UInt64(VaultHead.fixedByteCount + VaultEnd.byteCount) else { throw short }
      let fixed = try Self.read(raw, path, at: 0, count: VaultHead.fixedByteCount)
      let headByteCount = try unsafe VaultHead.byteCount(fixed: fixed.span.bytes)
      guard size >= UInt64(headByteCount + VaultEnd.byteCount) else { throw short }
      let headBytes = try Self.read(raw, path, at: 0, count: headByteCount)
      head = try unsafe VaultHead(decoding: headBytes.span.bytes)
      let tail = try Self.read(
        raw, path, at: size - UInt64(VaultEnd.byteCount), count: VaultEnd.byteCount)
      end = try unsafe VaultEnd(decoding: tail.span.bytes)
      layout = try VaultLayout(
        head: head, headByteCount: headByteCount, end: end, fileByteCount: size)
    } catch let error as DecodeError {
      throw VaultError.damaged(path: path, error)
    }
  }

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
    try unsafe Self.read(descriptor.raw, path, at: layout.contentOffset(index), into: page)
  }

  private func decoded<T>(_ body: () throws(DecodeError) -> T) throws -> T {
    do { return try body() } catch { throw VaultError.damaged(path: path, error) }
  }

  private func read(at offset: UInt64, count: Int) throws -> [UInt8] {
    try Self.read(descriptor.raw, path, at: offset, count: count)
  }

  private static func read(
    _ raw: Int32, _ path: String, at offset: UInt64, count: Int
  ) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    // SAFETY: the pointer does not leave the closure.
    try unsafe bytes.withUnsafeMutableBytes { try unsafe read(raw, path, at: offset, into: $0) }
    return bytes
  }

  private static func read(
    _ raw: Int32, _ path: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemError) {
    var done = 0
    while done < buffer.count {
      // SAFETY: `done < buffer.count`: the rest of a buffer that the caller keeps for the call.
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = unsafe pread(
        raw, part.baseAddress, part.count, off_t(clamping: offset) + off_t(done))
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw SystemError("read \(path)") }
      guard count > 0 else { throw SystemError("read \(path) (cut short)", code: EIO) }
      done += count
    }
  }
}
