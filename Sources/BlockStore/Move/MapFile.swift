import Base
import DiskStrategy
import Glibc
import HostIO

/// The map of a move that has not ended, in a file: which blocks the destination may not have.
///
/// The file is mapped, so what was noted in it survives the death of the process as written data do. It
/// doesn't survive that of the host: after that the parts in its activity log count as needed, and
/// everything when there is no whole log.
///
/// ```
/// 0      header: magic u64, byteCount u64, state u64, isClean u64, key's length u64, boot id 36 bytes,
///        length of what the destination says of itself u64, from 512 on the key, from 3072 on that text;
///        all little endian
/// 4096   activity log, twice, in turn: sequence u64, count u64, checksum u64, parts u32 each
/// 12288  a word per chunk, the lowest block in the lowest bit
/// ```
@safe
final class MapFile: @unchecked Sendable {
  // Unchecked: whoever owns the move's state alone touches the mapping.
  // SAFETY: the mapping is `byteCount` bytes of a file that nobody shrinks (it is locked), and lives as long
  // as this object; every access goes through `word`, `set`, `bytes` and `store`, which check their bounds.

  /// What the file says of the disk.
  enum State: UInt64, Sendable {
    /// The image is the disk.
    case copying = 1
    /// The disk is at the destination; the image is out of date.
    case switched = 2
  }

  private static let magic: UInt64 = 0x3150_414D_5457_4447  // GDWTMAP1
  static let headerByteCount = 4096
  static let logByteCount = 4096
  private static let wordsOffset = headerByteCount + 2 * logByteCount
  static let logHeaderByteCount = 24
  /// Longest key, in bytes.
  static let keyByteCountMax = 2500

  let path: String
  let geometry: DiskGeometry
  private let descriptor: Descriptor
  let mapping: UnsafeMutableRawPointer
  let byteCount: Int
  var sequence: UInt64 = 0

  private init(
    path: String, _ geometry: DiskGeometry, _ descriptor: consuming Descriptor
  ) throws(SystemError) {
    (self.path, self.geometry) = (path, geometry)
    byteCount = Self.wordsOffset + geometry.chunkCount * 8
    let raw = descriptor.raw
    self.descriptor = descriptor
    let address = unsafe mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, raw, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else {
      throw SystemError("map \(path)")
    }
    unsafe mapping = address
  }

  deinit { _ = unsafe munmap(mapping, byteCount) }

  /// Makes a file in place of one that may be there.
  ///
  /// - Parameters:
  ///   - key: of disk and destination; a map serves no others.
  ///   - filled: every block is needed; otherwise none is.
  static func make(
    _ path: String, _ geometry: DiskGeometry, key: String, filled: Bool = true
  ) throws(SystemError) -> MapFile {
    guard key.utf8.count <= keyByteCountMax else {
      throw SystemError("the destination's name for \(path)", code: ENAMETOOLONG)
    }
    // A name of its own until it is whole.
    let draft = path + ".new"
    let raw = unsafe Glibc.open(draft, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard raw >= 0 else { throw SystemError("make \(draft)") }
    let descriptor = Descriptor(owning: raw)
    try lock(raw, draft)
    let size = wordsOffset + geometry.chunkCount * 8
    guard ftruncate(raw, off_t(size)) == 0 else { throw SystemError("size \(draft)") }
    try FileSpace.reserve(raw, bytes: size, for: draft)
    let file = try MapFile(path: path, geometry, descriptor)
    file.begin(key, filled)
    try file.sync()
    guard unsafe rename(draft, path) == 0 else { throw SystemError("name \(path)") }
    syncFolder(of: path)
    return file
  }

  private func begin(_ key: String, _ filled: Bool) {
    set(Self.magic, at: 0)
    set(geometry.byteCount, at: 8)
    set(State.copying.rawValue, at: 16)
    set(0, at: 24)
    let bytes = Array(key.utf8)
    set(UInt64(bytes.count), at: 32)
    store(bytes, at: 512)
    store(Array(BootIdentity.current.utf8.prefix(36)), at: 40)
    let map = BlockMap(geometry, filled: filled)
    for chunk in 0..<geometry.chunkCount { self[chunk] = map.openWord(chunk) }
    keep(ActivityLog())
  }

  /// Opens what is there; nil: nothing is.
  static func open(
    _ path: String, _ geometry: DiskGeometry
  ) throws(SystemError) -> MapFile? {
    let raw = unsafe Glibc.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard raw >= 0 else {
      if errno == ENOENT { return nil }
      throw SystemError("open \(path)")
    }
    let descriptor = Descriptor(owning: raw)
    try lock(raw, path)
    let size = lseek(raw, 0, SEEK_END)
    guard size == off_t(wordsOffset + geometry.chunkCount * 8) else {
      throw SystemError("\(path) is no map of this disk", code: EINVAL)
    }
    let file = try MapFile(path: path, geometry, descriptor)
    guard file.word(at: 0) == magic, file.word(at: 8) == geometry.byteCount,
      file.word(at: 32) <= UInt64(keyByteCountMax), State(rawValue: file.word(at: 16)) != nil
    else { throw SystemError("\(path) is no map of this disk", code: EINVAL) }
    file.sequence = file.storedLog?.sequence ?? 0
    return file
  }

  /// Two servers must not use one map. The lock ends with the open file.
  private static func lock(_ raw: Int32, _ path: String) throws(SystemError) {
    guard flock(raw, LOCK_EX | LOCK_NB) == 0 else { throw SystemError("lock \(path)") }
  }

  /// Removes it: the move is over.
  func remove() {
    _ = unsafe unlink(path)
    Self.syncFolder(of: path)
  }

  private static func syncFolder(of path: String) {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    let folder = parts.isEmpty ? "." : parts.joined(separator: "/") + "/"
    let raw = unsafe Glibc.open(folder, O_RDONLY | O_CLOEXEC)
    guard raw >= 0 else { return }
    _ = fsync(raw)
    _ = Glibc.close(raw)
  }

  // MARK: Contents

  var key: String {
    let count = Int(min(word(at: 32), UInt64(Self.keyByteCountMax)))
    return String(decoding: bytes(at: 512, count: count), as: UTF8.self)
  }

  /// What the destination says of itself; empty: nothing, or it was not met yet.
  var peer: String {
    get {
      let count = Int(min(word(at: 80), 1000))
      return String(decoding: bytes(at: 3072, count: count), as: UTF8.self)
    }
    set {
      let bytes = Array(newValue.utf8.prefix(1000))
      set(UInt64(bytes.count), at: 80)
      store(bytes, at: 3072)
    }
  }

  var state: State { State(rawValue: word(at: 16)) ?? .copying }

  /// The image isn't the disk any more, whatever happens next. Returns once that is on stable storage.
  func markSwitched() throws(SystemError) {
    set(State.switched.rawValue, at: 16)
    do throws(SystemError) {
      try sync()
    } catch {
      // Whoever reads the file next would take the destination for the disk.
      set(State.copying.rawValue, at: 16)
      throw error
    }
  }

  /// Nobody writes to the disk until it is opened again.
  func close(isClean: Bool) throws(SystemError) {
    try sync()
    set(isClean ? 1 : 0, at: 24)
    try sync()
  }

  /// Whether all that was ever stored is in the file: it was closed, or the host hasn't crashed since.
  func isKnown(boot: String = BootIdentity.current) -> Bool {
    word(at: 24) == 1 || bytes(at: 40, count: 36) == Array(boot.utf8.prefix(36))
  }

  /// What is needed, as far as the file can be believed; from now on it counts as in use.
  ///
  /// - Parameter boot: what tells this run of the kernel from others.
  func load(boot: String = BootIdentity.current) throws(SystemError) -> BlockMap {
    let isKnown = isKnown(boot: boot)
    // Where nothing tells what was written last, everything counts as needed.
    let log = isKnown ? ActivityLog() : storedLog?.log
    var map = BlockMap(geometry, filled: log == nil)
    for chunk in 0..<geometry.chunkCount { map.need(chunk, self[chunk]) }
    for part in log?.parts ?? [] {
      let start = UInt64(part) * ActivityLog.partByteCount
      guard start < geometry.byteCount else { continue }
      map.note(geometry.touched(at: start, count: ActivityLog.partByteCount))
    }
    for chunk in 0..<geometry.chunkCount { self[chunk] = map.openWord(chunk) }
    // The log is emptied only when the map has what it said.
    try sync()
    keep(ActivityLog())
    try sync()
    try beginUse(boot: boot)
    return map
  }

  /// The file is not whole from now on until it is closed.
  func beginUse(boot: String = BootIdentity.current) throws(SystemError) {
    set(0, at: 24)
    store(Array(boot.utf8.prefix(36)), at: 40)
    try sync()
  }

  /// A chunk's word.
  subscript(chunk: Int) -> UInt64 {
    get { word(at: Self.wordsOffset + chunk * 8) }
    set { set(newValue, at: Self.wordsOffset + chunk * 8) }
  }

  /// Everything noted so far is on stable storage when this returns.
  func sync() throws(SystemError) {
    while unsafe msync(mapping, byteCount, Int32(MS_SYNC)) != 0 {
      if errno != EINTR { throw SystemError("write \(path)") }
    }
  }
}
