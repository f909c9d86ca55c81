import Glibc
import HostIO

/// A file of this host that is mapped: what is put into it survives the death of the process as written data do,
/// and, once `sync` has returned, that of the host.
@safe
final class MappedRecord: @unchecked Sendable {
  // Unchecked: whoever owns the record takes care that two threads don't change the same word.
  // SAFETY: the mapping is `byteCount` bytes of a file that nobody shrinks (it is locked), and lives as long as
  // this object; every access checks its bounds.
  let path: String
  let byteCount: Int
  private let descriptor: Descriptor
  private let mapping: UnsafeMutableRawPointer

  private init(
    _ path: String, _ byteCount: Int, _ descriptor: consuming Descriptor
  ) throws(SystemError) {
    (self.path, self.byteCount) = (path, byteCount)
    let raw = descriptor.raw
    self.descriptor = descriptor
    let address = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, raw, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else {
      throw SystemError("map \(path)")
    }
    unsafe mapping = address
  }

  deinit {
    _ = unsafe munmap(mapping, byteCount)
    // A program that is being started has the file open, too, until it runs: closing it here alone frees nothing yet.
    _ = flock(descriptor.raw, LOCK_UN)
  }

  /// Makes a file of zeros in place of one that may be there; it has its name only once `fill` has put in what
  /// makes it whole, and that is on stable storage.
  static func make(
    _ path: String, byteCount: Int, fill: (MappedRecord) -> Void
  ) throws(SystemError) -> MappedRecord {
    let draft = path + ".new"
    let raw = unsafe Glibc.open(draft, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard raw >= 0 else { throw SystemError("make \(draft)") }
    let descriptor = Descriptor(owning: raw)
    try lock(raw, draft)
    guard ftruncate(raw, off_t(byteCount)) == 0 else { throw SystemError("size \(draft)") }
    // A full disk is told now, and not by a signal when a word is stored.
    try FileSpace.reserve(raw, bytes: byteCount, for: draft)
    let record = try MappedRecord(path, byteCount, descriptor)
    fill(record)
    try record.sync()
    guard unsafe rename(draft, path) == 0 else { throw SystemError("name \(path)") }
    record.syncFolder()
    return record
  }

  /// Opens what is there; nil: nothing is. Throws when its size is another one.
  static func open(_ path: String, byteCount: Int) throws(SystemError) -> MappedRecord? {
    let raw = unsafe Glibc.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard raw >= 0 else {
      if errno == ENOENT { return nil }
      throw SystemError("open \(path)")
    }
    let descriptor = Descriptor(owning: raw)
    try lock(raw, path)
    guard lseek(raw, 0, SEEK_END) == off_t(byteCount) else {
      throw SystemError("\(path) is of a disk of another size", code: EINVAL)
    }
    return try MappedRecord(path, byteCount, descriptor)
  }

  /// Two servers must not use one record. The lock ends with the record, or its process.
  private static func lock(_ raw: Int32, _ path: String) throws(SystemError) {
    guard flock(raw, LOCK_EX | LOCK_NB) == 0 else { throw SystemError("lock \(path)") }
  }

  /// Takes its name away, for good.
  func remove() {
    _ = unsafe unlink(path)
    syncFolder()
  }

  private func syncFolder() {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    let folder = parts.isEmpty ? "." : parts.joined(separator: "/") + "/"
    let raw = unsafe Glibc.open(folder, O_RDONLY | O_CLOEXEC)
    guard raw >= 0 else { return }
    _ = fsync(raw)
    _ = Glibc.close(raw)
  }

  /// Everything that was put in so far is on stable storage when this returns.
  func sync() throws(SystemError) {
    while unsafe msync(mapping, byteCount, Int32(MS_SYNC)) != 0 {
      if errno != EINTR { throw SystemError("write \(path)") }
    }
  }

  // MARK: Contents, little endian

  func word(at offset: Int) -> UInt64 {
    precondition(offset >= 0 && offset <= byteCount - 8 && offset.isMultiple(of: 8))
    // SAFETY: in bounds by the precondition; any bit pattern is a number.
    return unsafe UInt64(littleEndian: mapping.load(fromByteOffset: offset, as: UInt64.self))
  }

  func set(_ value: UInt64, at offset: Int) {
    precondition(offset >= 0 && offset <= byteCount - 8 && offset.isMultiple(of: 8))
    // SAFETY: in bounds by the precondition.
    unsafe mapping.storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt64.self)
  }

  /// A text with its length before it, as `setText` puts it.
  func text(at offset: Int, byteCountMax: Int) -> String {
    let count = Int(min(word(at: offset), UInt64(byteCountMax)))
    return String(decoding: bytes(at: offset + 8, count: count), as: UTF8.self)
  }

  /// - Precondition: the text has at most `byteCountMax` bytes.
  func setText(_ text: String, at offset: Int, byteCountMax: Int) {
    let bytes = Array(text.utf8)
    precondition(bytes.count <= byteCountMax && offset + 8 <= byteCount - byteCountMax)
    set(UInt64(bytes.count), at: offset)
    store(bytes, at: offset + 8)
  }

  func bytes(at offset: Int, count: Int) -> [UInt8] {
    precondition(offset >= 0 && count >= 0 && offset <= byteCount - count)
    // SAFETY: in bounds by the precondition.
    return unsafe Array(UnsafeRawBufferPointer(start: mapping + offset, count: count))
  }

  func store(_ bytes: [UInt8], at offset: Int) {
    precondition(offset >= 0 && offset <= byteCount - bytes.count)
    // SAFETY: in bounds by the precondition.
    unsafe UnsafeMutableRawBufferPointer(start: mapping + offset, count: bytes.count)
      .copyBytes(from: bytes)
  }
}
