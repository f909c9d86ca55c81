import Glibc

/// Image files of the lab's disks. Everything blocks.
enum DiskImage {
  /// Writes every block in its first version.
  static func make(_ path: String, _ disk: MatrixDisk, seed: UInt64) throws {
    let file = try create(path, byteCount: disk.byteCount)
    defer { close(file) }
    let content = BlockContent(seed: seed, blockBytes: disk.load.blockBytes)
    var words = [UInt64](repeating: 0, count: content.wordCount)
    for block in 0..<disk.blockCount {
      content.fill(&words, block: block, version: 0)
      // SAFETY: the array's own bytes, for the call alone.
      let count = unsafe words.withUnsafeBytes {
        unsafe pwrite(file, $0.baseAddress, $0.count, off_t(block) * off_t($0.count))
      }
      guard count == disk.load.blockBytes else {
        throw LabError("cannot write \(path): errno \(errno)")
      }
    }
  }

  /// An empty one.
  static func makeEmpty(_ path: String, byteCount: UInt64) throws {
    close(try create(path, byteCount: byteCount))
  }

  private static func create(_ path: String, byteCount: UInt64) throws -> Int32 {
    let file = unsafe open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw LabError("cannot make \(path): errno \(errno)") }
    guard ftruncate(file, off_t(byteCount)) == 0 else {
      close(file)
      throw LabError("cannot make \(path): errno \(errno)")
    }
    return file
  }

  /// Nil where there is nothing.
  static func byteCount(of path: String) -> UInt64? {
    var status = stat()
    return unsafe stat(path, &status) == 0 ? UInt64(clamping: status.st_size) : nil
  }

  /// Pages that are not what clients wrote there last.
  ///
  /// - Parameter versions: of each block.
  static func differingPages(
    _ path: String, _ disk: MatrixDisk, seed: UInt64, versions: [UInt64]
  ) throws -> UInt64 {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw LabError("cannot read \(path): errno \(errno)") }
    defer { close(file) }
    let content = BlockContent(seed: seed, blockBytes: disk.load.blockBytes)
    var words = [UInt64](repeating: 0, count: content.wordCount)
    var expected = words
    var differing: UInt64 = 0
    for (block, version) in versions.enumerated() {
      // SAFETY: the array's own bytes, for the call alone.
      let count = unsafe words.withUnsafeMutableBytes {
        unsafe pread(file, $0.baseAddress, $0.count, off_t(block) * off_t($0.count))
      }
      guard count == disk.load.blockBytes else {
        throw LabError("\(path) ends before its end")
      }
      if content.matches(words, block: UInt64(block), version: version) { continue }
      content.fill(&expected, block: UInt64(block), version: version)
      for page in stride(from: 0, to: words.count, by: 512)
      where words[page..<(page + 512)] != expected[page..<(page + 512)] { differing += 1 }
    }
    return differing
  }
}
