import FoundationEssentials
import Glibc
import HostIO

/// One migration's journal: an append-only file, a JSON object a line, synced before `append` returns.
///
/// A torn last line (the agent died while writing) is what had not been decided yet: it is ignored.
final class Journal: Sendable {
  /// Longest file read back, in bytes; a journal has a dozen lines.
  static let byteCountMax = 4 << 20
  static let suffix = ".journal"

  let path: String
  private let descriptor: Descriptor

  /// Opens or creates the journal of migration `id`.
  init(directory: String, id: String) throws {
    path = directory + "/" + id + Self.suffix
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    let raw = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard raw >= 0 else { throw SystemError("open the journal \(path)") }
    descriptor = Descriptor(owning: raw)
    // The file's own name must survive a crash too.
    let folder = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      _ = fsync(folder)
      _ = close(folder)
    }
  }

  /// Writes a record and waits until it is on disk.
  func append(_ record: JournalRecord) async throws {
    let line = [UInt8](try JSONEncoder().encode(record)) + [UInt8(ascii: "\n")]
    try await Blocking.run { [self] in
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

  /// Removes the file: the migration is in the history now.
  func remove() { _ = unsafe unlink(path) }

  /// The records of a journal file, as far as they are whole.
  static func records(at path: String) throws -> [JournalRecord] {
    guard let data = FileManager.default.contents(atPath: path), data.count <= byteCountMax else {
      throw SystemError("read the journal \(path)", code: EIO)
    }
    var records: [JournalRecord] = []
    for line in data.split(separator: UInt8(ascii: "\n")) {
      guard let record = try? JSONDecoder().decode(JournalRecord.self, from: Data(line)) else {
        break
      }
      records.append(record)
    }
    return records
  }

  /// Journals of migrations that no one finished, oldest first.
  static func unfinished(in directory: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return names.filter { $0.hasSuffix(suffix) }.sorted().map { directory + "/" + $0 }
  }
}
