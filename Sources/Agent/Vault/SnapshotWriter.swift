import Base
import Compaction
import Glibc
import HostIO
import Wire

/// Writes a snapshot's file from its start to its end. Until `finish` it is no snapshot, whatever happens.
///
/// For one thread. The file is locked while it is written, so that others can tell it from what a dead agent left
/// behind.
final class SnapshotWriter {
  /// Segments after which what was written is waited for: the host's other writers are not to find gigabytes in
  /// front of them.
  private static let syncSegments: UInt64 = 64

  let path: String
  let head: VaultHead
  private let headByteCount: Int
  private let descriptor: Descriptor
  /// Nil: bytes go into the file as they are.
  private var sealer: ChunkSealer?
  private let contents = PageBuffer(byteCount: VaultLimits.segmentPages * Page.size)
  private var keys: [UInt64] = []
  private var filters: [UInt64] = []
  private var identities: [UInt8] = []
  /// Pages in segments that are written.
  private var writtenPages: UInt64 = 0
  private(set) var zeroPages: UInt64 = 0
  /// Of the file so far.
  private(set) var byteCount: UInt64 = 0

  /// Makes the file, which must not exist.
  ///
  /// - Parameter secret: seals it; nil: it is readable for whoever may read files of the agent's user.
  init(path: String, head: VaultHead, secret: VaultSecret? = nil) throws {
    (self.path, self.head) = (path, head)
    // SAFETY: the path is a NUL-terminated copy for the call.
    let raw = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard raw >= 0 else { throw SystemError("make \(path)") }
    descriptor = Descriptor(owning: raw)
    var bytes: [UInt8] = []
    head.encode(into: &bytes)
    headByteCount = bytes.count
    guard flock(raw, LOCK_EX | LOCK_NB) == 0 else { throw SystemError("lock \(path)") }
    if let secret {
      var random = SystemRandomNumberGenerator()
      let sealed = SealedHead(salt: (0..<SealedHead.saltByteCount).map { _ in random.next() })
      var start: [UInt8] = []
      sealed.encode(into: &start)
      try store(start)
      sealer = ChunkSealer(secret.cipher(salt: sealed.salt))
    }
    try write(bytes)
  }

  deinit {
    // A program that is being started has the file open, too, until it runs: closing it here alone frees nothing yet.
    _ = flock(descriptor.raw, LOCK_UN)
  }

  /// Pages that are stored so far.
  var storedPages: UInt64 { writtenPages + UInt64(keys.count) }

  /// Adds a page that is not zero. Pages come in rising order.
  func add(block: Int, page: UInt64, _ content: RawSpan) throws {
    let key = VaultKey(block: block, page: page)
    precondition(keys.last.map { $0 < key.rawValue } ?? true && content.byteCount == Page.size)
    contents.store(content, at: keys.count * Page.size)
    keys.append(key.rawValue)
    filters.append(SentMemory.hash(content, seed: head.seed))
    identities += PageIdentity.bytes(of: content)
    if keys.count == VaultLimits.segmentPages { try flush() }
  }

  /// Pages that were zero, or have no place on the host, are only counted.
  func addZeros(_ count: Int) { zeroPages += UInt64(count) }

  /// Holds so much room behind what is written for this file; where the file system can't, nothing is held.
  ///
  /// Throws when there is none.
  func reserve(_ bytes: UInt64) throws(SystemError) {
    try FileSpace.reserve(descriptor.raw, bytes: Int(clamping: byteCount + bytes), for: path)
  }

  /// Writes the end and waits until all of it is on the disk.
  func finish() throws {
    try flush()
    var bytes: [UInt8] = []
    VaultEnd(
      id: head.id, storedPages: writtenPages, zeroPages: zeroPages, headByteCount: headByteCount
    ).encode(into: &bytes)
    try write(bytes)
    if let rest = try sealer?.finish() { try store(rest) }
    // What was reserved and isn't needed goes back.
    guard let size = off_t(exactly: byteCount), ftruncate(descriptor.raw, size) == 0 else {
      throw SystemError("end \(path)")
    }
    guard fsync(descriptor.raw) == 0 else { throw SystemError("sync \(path)") }
  }

  private func flush() throws {
    guard !keys.isEmpty else { return }
    let count = keys.count
    var lookups: [UInt8] = []
    lookups.reserveCapacity(count * VaultSegment.lookupByteCount)
    for key in keys { lookups.appendBE(key) }
    for filter in filters { lookups.appendBE(filter) }
    // Copies by reference: a span needs an owner that stays.
    let (identities, contents) = (self.identities, self.contents)
    let segment = VaultSegment(
      pageCount: count, firstIndex: writtenPages,
      lookupChecksum: unsafe FrameChecksum.of(lookups.span.bytes),
      contentChecksum: unsafe FrameChecksum.of(
        identities.span.bytes, contents.span(count * Page.size)))
    var lead: [UInt8] = []
    segment.encode(into: &lead)
    lead += lookups
    lead += identities
    try write(lead)
    try unsafe write(UnsafeRawBufferPointer(contents.part(0, count * Page.size)))
    writtenPages += UInt64(count)
    keys.removeAll(keepingCapacity: true)
    filters.removeAll(keepingCapacity: true)
    self.identities.removeAll(keepingCapacity: true)
    let segments = writtenPages / UInt64(VaultLimits.segmentPages)
    if segments % Self.syncSegments == 0, fdatasync(descriptor.raw) != 0 {
      throw SystemError("sync \(path)")
    }
  }

  private func write(_ bytes: [UInt8]) throws {
    // SAFETY: the pointer does not leave the closure.
    try unsafe bytes.withUnsafeBytes { try unsafe write($0) }
  }

  private func write(_ bytes: UnsafeRawBufferPointer) throws {
    // SAFETY: the caller keeps the bytes for the call.
    if let sealed = try sealer?.seal(unsafe RawSpan(_unsafeBytes: bytes)) {
      try store(sealed)
    } else {
      try unsafe store(bytes)
    }
  }

  private func store(_ bytes: [UInt8]) throws {
    // SAFETY: the pointer does not leave the closure.
    try unsafe bytes.withUnsafeBytes { try unsafe store($0) }
  }

  private func store(_ bytes: UnsafeRawBufferPointer) throws {
    var done = 0
    while done < bytes.count {
      // SAFETY: `done < bytes.count`: the rest of what the caller keeps for the call.
      let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = unsafe Glibc.write(descriptor.raw, part.baseAddress, part.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw SystemError("write \(path)") }
      done += count
    }
    byteCount += UInt64(bytes.count)
  }
}
