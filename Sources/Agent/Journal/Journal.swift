import FoundationEssentials
import Glibc
import HostIO

/// One migration's journal: an append-only file of `JournalLine`s, synced before `append` returns.
///
/// A record counts from its newline on. A tail without one (the agent died while writing, or the disk
/// was full) is what had not been decided yet: readers pass over it, and the next writer cuts it off.
final class Journal: Sendable {
  /// Longest file read back, in bytes; a journal has a dozen lines.
  static let byteCountMax = 4 << 20
  static let suffix = ".journal"
  /// Space that a new journal takes at once: a disk that fills up later must not stop a commit midway.
  /// Many times what a migration writes.
  static let reservedBytes = 64 << 10

  let path: String
  private let descriptor: Descriptor

  /// Opens or creates the journal of migration `id`.
  init(directory: String, id: String) throws {
    path = directory + "/" + id + Self.suffix
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    let raw = unsafe open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard raw >= 0 else { throw SystemError("open the journal \(path)") }
    descriptor = Descriptor(owning: raw)
    try Self.cutTornLine(raw, path)
    if lseek(raw, 0, SEEK_END) == 0 {
      try FileSpace.reserve(raw, bytes: Self.reservedBytes, for: "the journal \(path)")
    }
    // The file's own name must survive a crash too.
    let folder = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      _ = fsync(folder)
      _ = close(folder)
    }
  }

  /// Writes a record and waits until it is on disk.
  func append(_ record: JournalRecord) async throws {
    let line = try JournalLine.encode(record)
    try await Blocking.run { [self] in
      // A write that failed midway left a part of its line.
      try Self.cutTornLine(descriptor.raw, path)
      var done = 0
      while done < line.count {
        // SAFETY: `done < raw.count`, so pointer and count are the rest of `line`, which lives for the call.
        let count = unsafe line.withUnsafeBytes { raw in
          unsafe write(descriptor.raw, raw.baseAddress.map { unsafe $0 + done }, raw.count - done)
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { throw SystemError("write the journal \(path)") }
        done += count
      }
      guard fdatasync(descriptor.raw) == 0 else { throw SystemError("sync the journal \(path)") }
    }
  }

  /// What is appended must not be glued to a torn line, or it would be torn as well.
  private static func cutTornLine(_ raw: Int32, _ path: String) throws {
    guard let data = FileManager.default.contents(atPath: path), let last = data.last,
      last != UInt8(ascii: "\n")
    else { return }
    let whole = data.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    guard ftruncate(raw, off_t(whole)) == 0 else {
      throw SystemError("cut the torn line off the journal \(path)")
    }
  }

  /// Removes the file: the migration is in the history now.
  func remove() { _ = unsafe unlink(path) }

  static func exists(at path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  /// The records of a journal file. Throws `JournalDamage` for one that must not be guessed at.
  static func records(at path: String) throws -> [JournalRecord] {
    guard let data = FileManager.default.contents(atPath: path), data.count <= byteCountMax else {
      throw JournalDamage(.unreadable, path: path)
    }
    var lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    lines.removeLast()  // behind the last newline: nothing, or a torn line
    var records: [JournalRecord] = []
    for (index, line) in lines.enumerated() where !line.isEmpty {
      do { records.append(try JournalLine.decode(line)) } catch {
        throw JournalDamage(error.code, path: path, line: index + 1, intact: records)
      }
    }
    return records
  }

  /// Journals of migrations that no one finished, oldest first.
  static func unfinished(in directory: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return names.filter { $0.hasSuffix(suffix) }.sorted().map { directory + "/" + $0 }
  }
}
