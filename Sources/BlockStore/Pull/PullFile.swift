import DiskStrategy
import Glibc
import HostIO

/// The map of a disk that is pulled, in a file: which blocks are here.
///
/// It says that twice. `here` has a block as soon as its content was written to the image: that survives the
/// death of this process, as the written data do. `stable` has it only when a flush of the image has covered that
/// content: after a crash of the host only this is believed, and the rest is fetched again. What a
/// client of this disk has flushed is in `stable` before the flush is answered.
///
/// ```
/// 0     magic u64, byteCount u64, cap u64 (bytes per second; 0: none), isWritten u64
/// 64    boot id: a text
/// 512   identity of the image: a text
/// 1024  what the source says of itself: a text
/// 1536  URI of the source: a text
/// 4096  two words per chunk, the lowest block in the lowest bit: here, stable
/// ```
/// A text is its length u64 and its bytes. All numbers are little endian.
struct PullFile: Sendable {
  private static let magic: UInt64 = 0x314C_5550_5457_4447  // GDWTPUL1
  private static let headerByteCount = 4096
  private typealias Field = (offset: Int, byteCountMax: Int)
  private static let boot: Field = (64, 40)
  private static let identity: Field = (512, 500)
  private static let peer: Field = (1024, 500)
  private static let uri: Field = (1536, 2500)

  private let record: MappedRecord
  let geometry: DiskGeometry

  var path: String { record.path }

  private static func size(_ geometry: DiskGeometry) -> Int {
    headerByteCount + geometry.chunkCount * 16
  }

  /// Makes a map in which nothing is here.
  ///
  /// - Parameter peer: what the source says of itself; empty: nothing.
  static func make(
    _ path: String, _ geometry: DiskGeometry, identity: String, uri: String, peer: String,
    bytesPerSecond: UInt64?
  ) throws(SystemError) -> PullFile {
    let texts = [(identity, Self.identity), (uri, Self.uri), (peer, Self.peer)]
    guard texts.allSatisfy({ $0.0.utf8.count <= $0.1.byteCountMax }) else {
      throw SystemError("the names of image and source for \(path)", code: ENAMETOOLONG)
    }
    let record = try MappedRecord.make(path, byteCount: size(geometry)) { record in
      record.set(magic, at: 0)
      record.set(geometry.byteCount, at: 8)
      record.set(bytesPerSecond ?? 0, at: 16)
      setText(record, Self.boot, String(BootIdentity.current.prefix(36)))
      setText(record, Self.identity, identity)
      setText(record, Self.peer, peer)
      setText(record, Self.uri, uri)
    }
    return PullFile(record: record, geometry: geometry)
  }

  /// Opens what is there; nil: nothing is.
  static func open(_ path: String, _ geometry: DiskGeometry) throws(SystemError) -> PullFile? {
    guard let record = try MappedRecord.open(path, byteCount: size(geometry)) else { return nil }
    guard record.word(at: 0) == magic, record.word(at: 8) == geometry.byteCount else {
      throw SystemError("\(path) is no map of this disk", code: EINVAL)
    }
    return PullFile(record: record, geometry: geometry)
  }

  private static func setText(_ record: MappedRecord, _ field: Field, _ text: String) {
    record.setText(text, at: field.offset, byteCountMax: field.byteCountMax)
  }

  private func text(_ field: Field) -> String {
    record.text(at: field.offset, byteCountMax: field.byteCountMax)
  }

  // MARK: Whose it is

  var identity: String { text(Self.identity) }
  var uri: String { text(Self.uri) }
  /// What the source said of itself when the pull began; empty: nothing.
  var peer: String { text(Self.peer) }

  /// The source is believed to be the same disk, whatever it says of itself now.
  func setPeer(_ peer: String) throws(SystemError) {
    Self.setText(record, Self.peer, peer)
    try record.sync()
  }

  /// Cap on what is fetched without being asked for; nil: none.
  var bytesPerSecond: UInt64? { record.word(at: 16) == 0 ? nil : record.word(at: 16) }

  /// Whether somebody may have written to the disk here.
  var isWritten: Bool { record.word(at: 24) != 0 }

  /// Returns once that is on stable storage.
  func markWritten() throws(SystemError) {
    record.set(1, at: 24)
    try record.sync()
  }

  // MARK: Blocks

  /// What is here, as far as the file can be believed; from now on it counts as in use.
  ///
  /// - Parameter boot: what tells this run of the kernel from others.
  func load(boot: String = BootIdentity.current) throws(SystemError) -> PullMap {
    let isSameRun = boot != "unknown" && text(Self.boot) == boot
    var map = PullMap(geometry)
    for chunk in 0..<geometry.chunkCount {
      let sure = stable(chunk)
      map.restore(chunk, here: isSameRun ? here(chunk) | sure : sure, stable: sure)
    }
    guard !isSameRun else { return map }
    for chunk in 0..<geometry.chunkCount { setHere(chunk, map.hereWord(chunk)) }
    // What the crash made wrong is gone before it could be believed again.
    try record.sync()
    Self.setText(record, Self.boot, boot)
    try record.sync()
    return map
  }

  /// A flush of the image has failed: what was to be covered by it may be gone, and the kernel tells so only once.
  /// Whoever opens this next believes what is stable alone.
  func distrust() { Self.setText(record, Self.boot, "") }

  private func here(_ chunk: Int) -> UInt64 {
    record.word(at: Self.headerByteCount + chunk * 16)
  }

  private func stable(_ chunk: Int) -> UInt64 {
    record.word(at: Self.headerByteCount + chunk * 16 + 8)
  }

  func setHere(_ chunk: Int, _ word: UInt64) {
    record.set(word, at: Self.headerByteCount + chunk * 16)
  }

  /// Only what a flush of the image has covered.
  func setStable(_ chunk: Int, _ word: UInt64) {
    record.set(word, at: Self.headerByteCount + chunk * 16 + 8)
  }

  /// What it says is on stable storage when this returns.
  func sync() throws(SystemError) { try record.sync() }

  /// The pull is over.
  func remove() { record.remove() }
}
