import Base
import FoundationEssentials
import Glibc
import HostIO

/// A guest's root disk: an ext4 file system of files that this machine's packages brought, made once and kept in the
/// cache. Guests read it and nobody writes to it.
enum RootDisk {
  static let sizeMin = ByteCount.mebibytes(8)
  static let sizeMax = ByteCount.mebibytes(16 << 10)

  /// Files larger or smaller than that are left out: few files fill the disk, and no single one.
  private static let fileBytes: ClosedRange<Int> = 16 << 10...32 << 20
  private static let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/bin", "/usr/share", "/usr/lib"]

  /// The image with `size` of files, or with as much as there is.
  static func prepare(_ size: ByteCount, cache: CacheFolder = CacheFolder()) async throws -> String
  {
    let files = try await WorkerThread.run("lab-files") { try choose(size) }
    let key = CacheFolder.key(files.map { "\($0.path) \($0.bytes) \($0.modified)" } + ["layout 1"])
    return try await cache.file(kind: "root-disk", key: key, name: "root.raw") { partial in
      let staging = partial + ".files"
      defer { try? FileManager.default.removeItem(atPath: staging) }
      try await WorkerThread.run("lab-files") { try copy(files, to: staging) }
      // Room for what the file system needs itself.
      let kibibytes = (size.bytes >> 10) * 11 / 10 + 32 << 10
      try SmallFile.write([], to: partial, mode: 0o600)
      try await Command.run(
        "mke2fs",
        [
          "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal", "-L",
          "godwit-root", "-d", staging, partial, "\(kibibytes)k",
        ], timeoutMs: 300_000)
    }
  }

  private struct File: Sendable {
    let path: String
    let bytes, modified: Int
  }

  /// The first files by path that come to `size`. Blocks.
  private static func choose(_ size: ByteCount) throws -> [File] {
    var files: [File] = []
    var total: UInt64 = 0
    // One file under many names (some drivers are) would be the same content over and over.
    var seen: Set<UInt> = []
    for folder in folders {
      let names = (try? FileManager.default.subpathsOfDirectory(atPath: folder)) ?? []
      for name in names.sorted() {
        let path = "\(folder)/\(name)"
        var status = stat()
        guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
          fileBytes.contains(status.st_size), total + UInt64(status.st_size) <= size.bytes,
          seen.insert(status.st_ino).inserted
        else { continue }
        files.append(
          File(path: path, bytes: status.st_size, modified: status.st_mtim.tv_sec))
        total += UInt64(status.st_size)
        if total >= size.bytes - UInt64(fileBytes.lowerBound) { return files }
      }
    }
    guard total >= size.bytes / 2 else {
      throw LabError("this machine has not \(size) of files in \(folders.joined(separator: ", "))")
    }
    return files
  }

  /// Copies the files under numbers. Blocks.
  private static func copy(_ files: [File], to folder: String) throws {
    try? FileManager.default.removeItem(atPath: folder)
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (number, file) in files.enumerated() {
      let bytes = try SmallFile.readBytes(file.path, bytesMax: fileBytes.upperBound)
      try SmallFile.write(bytes, to: "\(folder)/\(number)")
    }
  }
}
