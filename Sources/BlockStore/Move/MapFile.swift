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
final class MapFile: @unchecked Sendable {
  // SAFETY: whoever owns the move's state alone touches it, one thread at a time.

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

  let record: MappedRecord
  let geometry: DiskGeometry
  var sequence: UInt64 = 0

  private init(_ record: MappedRecord, _ geometry: DiskGeometry) {
    (self.record, self.geometry) = (record, geometry)
    sequence = storedLog?.sequence ?? 0
  }

  private static func size(_ geometry: DiskGeometry) -> Int {
    wordsOffset + geometry.chunkCount * 8
  }

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
    let record = try MappedRecord.make(path, byteCount: size(geometry)) { record in
      MapFile(record, geometry).begin(key, filled)
    }
    return MapFile(record, geometry)
  }

  private func begin(_ key: String, _ filled: Bool) {
    record.set(Self.magic, at: 0)
    record.set(geometry.byteCount, at: 8)
    record.set(State.copying.rawValue, at: 16)
    record.set(0, at: 24)
    let bytes = Array(key.utf8)
    record.set(UInt64(bytes.count), at: 32)
    record.store(bytes, at: 512)
    record.store(Array(BootIdentity.current.utf8.prefix(36)), at: 40)
    let map = BlockMap(geometry, filled: filled)
    for chunk in 0..<geometry.chunkCount { self[chunk] = map.openWord(chunk) }
    keep(ActivityLog())
  }

  /// Opens what is there; nil: nothing is.
  static func open(
    _ path: String, _ geometry: DiskGeometry
  ) throws(SystemError) -> MapFile? {
    guard let record = try MappedRecord.open(path, byteCount: size(geometry)) else { return nil }
    guard record.word(at: 0) == magic, record.word(at: 8) == geometry.byteCount,
      record.word(at: 32) <= UInt64(keyByteCountMax), State(rawValue: record.word(at: 16)) != nil
    else { throw SystemError("\(path) is no map of this disk", code: EINVAL) }
    return MapFile(record, geometry)
  }

  /// Removes it: the move is over.
  func remove() { record.remove() }

  // MARK: Contents

  var key: String {
    let count = Int(min(record.word(at: 32), UInt64(Self.keyByteCountMax)))
    return String(decoding: record.bytes(at: 512, count: count), as: UTF8.self)
  }

  /// What the destination says of itself; empty: nothing, or it was not met yet.
  var peer: String {
    get {
      let count = Int(min(record.word(at: 80), 1000))
      return String(decoding: record.bytes(at: 3072, count: count), as: UTF8.self)
    }
    set {
      let bytes = Array(newValue.utf8.prefix(1000))
      record.set(UInt64(bytes.count), at: 80)
      record.store(bytes, at: 3072)
    }
  }

  var state: State { State(rawValue: record.word(at: 16)) ?? .copying }

  /// The image isn't the disk any more, whatever happens next. Returns once that is on stable storage.
  func markSwitched() throws(SystemError) {
    record.set(State.switched.rawValue, at: 16)
    do throws(SystemError) {
      try sync()
    } catch {
      // Whoever reads the file next would take the destination for the disk.
      record.set(State.copying.rawValue, at: 16)
      throw error
    }
  }

  /// Nobody writes to the disk until it is opened again.
  func close(isClean: Bool) throws(SystemError) {
    try sync()
    record.set(isClean ? 1 : 0, at: 24)
    try sync()
  }

  /// Whether all that was ever stored is in the file: it was closed, or the host hasn't crashed since.
  func isKnown(boot: String = BootIdentity.current) -> Bool {
    record.word(at: 24) == 1 || record.bytes(at: 40, count: 36) == Array(boot.utf8.prefix(36))
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
    record.set(0, at: 24)
    record.store(Array(boot.utf8.prefix(36)), at: 40)
    try sync()
  }

  /// A chunk's word.
  subscript(chunk: Int) -> UInt64 {
    get { record.word(at: Self.wordsOffset + chunk * 8) }
    set { record.set(newValue, at: Self.wordsOffset + chunk * 8) }
  }

  /// Everything noted so far is on stable storage when this returns.
  func sync() throws(SystemError) { try record.sync() }
}
