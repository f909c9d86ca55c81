import Base
import Compaction
import FoundationEssentials
import Glibc
import HostIO

/// The bytes of a snapshot: its file's as they are, or unsealed. Hostile until they are proven.
final class SnapshotStorage: Sendable {
  let path: String
  /// Of the snapshot, and of its file.
  let byteCount, fileByteCount: UInt64
  private let descriptor: Descriptor
  private let sealed: (cipher: ChunkCipher, layout: SealedLayout)?

  /// - Parameter secret: the host's key; nil: it has none, and can read no sealed snapshot.
  init(path: String, secret: VaultSecret?) throws {
    self.path = path
    // SAFETY: the path is a NUL-terminated copy for the call.
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard raw >= 0 else { throw SystemError("open \(path)") }
    descriptor = Descriptor(owning: raw)
    var status = stat()
    // SAFETY: `status` lives for the call.
    guard unsafe fstat(raw, &status) == 0 else { throw SystemError("look at \(path)") }
    fileByteCount = UInt64(clamping: status.st_size)
    do {
      let short = DecodeError(.truncated, in: "snapshot", at: 0, found: fileByteCount)
      guard fileByteCount >= UInt64(SealedHead.byteCount) else { throw short }
      let first = try Self.read(raw, path, at: 0, count: SealedHead.byteCount)
      guard unsafe SealedHead.begins(first.span.bytes) else {
        byteCount = fileByteCount
        sealed = nil
        return
      }
      let head = try unsafe SealedHead(decoding: first.span.bytes)
      guard let layout = SealedLayout(fileByteCount: fileByteCount) else { throw short }
      guard let secret else { throw VaultError.locked(path: path) }
      byteCount = layout.byteCount
      sealed = (cipher: secret.cipher(salt: head.salt), layout: layout)
    } catch let error as DecodeError {
      throw VaultError.damaged(path: path, error)
    }
  }

  var isSealed: Bool { sealed != nil }

  /// The bytes are about to be read.
  func willNeed(at offset: UInt64, count: Int) {
    guard let sealed else {
      _ = posix_fadvise(
        descriptor.raw, off_t(clamping: offset), off_t(count), Int32(POSIX_FADV_WILLNEED))
      return
    }
    guard count > 0, offset <= byteCount, UInt64(count) <= byteCount - offset else { return }
    let chunks = sealed.layout.chunks(of: offset..<offset + UInt64(count))
    let first = sealed.layout.stored(chunks.lowerBound).lowerBound
    let end = sealed.layout.stored(chunks.upperBound).upperBound
    _ = posix_fadvise(
      descriptor.raw, off_t(clamping: first), off_t(clamping: end - first),
      Int32(POSIX_FADV_WILLNEED))
  }

  func read(at offset: UInt64, count: Int) throws(SystemError) -> [UInt8] {
    guard let sealed else { return try Self.read(descriptor.raw, path, at: offset, count: count) }
    guard count > 0 else { return [] }
    guard offset <= byteCount, UInt64(count) <= byteCount - offset else {
      throw SystemError("read \(path) (cut short)", code: EIO)
    }
    let bytes = offset..<offset + UInt64(count)
    let chunks = sealed.layout.chunks(of: bytes)
    let stored = sealed.layout.stored(chunks.lowerBound).lowerBound
    let end = sealed.layout.stored(chunks.upperBound).upperBound
    let file = try Self.read(descriptor.raw, path, at: stored, count: Int(end - stored))
    var plain: [UInt8] = []
    plain.reserveCapacity(file.count)
    for chunk in chunks {
      let range = sealed.layout.stored(chunk)
      let part = file[Int(range.lowerBound - stored)..<Int(range.upperBound - stored)]
      do {
        plain += try sealed.cipher.open(
          part, chunk, isLast: chunk == sealed.layout.chunkCount - 1)
      } catch {
        throw SystemError("unseal \(path), which was changed or has another key", code: EBADMSG)
      }
    }
    let first = Int(offset - chunks.lowerBound * UInt64(SealedHead.chunkBytes))
    return Array(plain[first..<first + count])
  }

  func read(
    at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemError) {
    guard sealed != nil else {
      return try unsafe Self.read(descriptor.raw, path, at: offset, into: buffer)
    }
    let bytes = try read(at: offset, count: buffer.count)
    // SAFETY: as many bytes as the buffer has; the caller keeps it for the call.
    unsafe bytes.withUnsafeBytes { unsafe buffer.copyMemory(from: $0) }
  }

  private static func read(
    _ raw: Int32, _ path: String, at offset: UInt64, count: Int
  ) throws(SystemError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    // SAFETY: the pointer does not leave the closure.
    let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Result<Void, SystemError> in
      Result { () throws(SystemError) in try unsafe read(raw, path, at: offset, into: buffer) }
    }
    try result.get()
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
