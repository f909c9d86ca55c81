import Base
import Compaction
import Foundation
import HostIO
import Testing

@testable import Agent

/// A folder for images and their indexes, removed at the end.
final class ImageScratch: Sendable {
  let path: String
  init() throws {
    path = "/tmp/godwit-index-\(UUID().uuidString.prefix(8))"
    try PrivateDirectory.make(path)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func indexing(
    _ host: String = "a", _ format: ImageIndexing.Format? = nil, threads: Int = 2
  ) -> ImageIndexing {
    ImageIndexing(
      folder: IndexFolder(stateDirectory: "\(path)/\(host)"), format: format, threads: threads)
  }

  /// A raw image in which these blocks hold something.
  func raw(_ name: String, blocks: UInt64, held: [UInt64], version: UInt64 = 0) throws -> String {
    let file = "\(path)/\(name)"
    #expect(FileManager.default.createFile(atPath: file, contents: nil))
    #expect(truncate(file, off_t(blocks << 12)) == 0)
    try TestImage.write(file, held, version: version)
    return file
  }
}

enum TestImage {
  /// What block `number` holds: noise of its own.
  static func content(_ number: UInt64, version: UInt64 = 0) -> [UInt8] {
    var random = SplitMix64(seed: number &* 1_000_003 &+ version)
    let words = (0..<Page.size / 8).map { _ in random.next() }
    return words.withUnsafeBytes { Array($0) }
  }

  /// Writes blocks of an image in place.
  static func write(_ file: String, _ blocks: some Sequence<UInt64>, version: UInt64) throws {
    let handle = try #require(FileHandle(forUpdatingAtPath: file))
    for block in blocks {
      try handle.seek(toOffset: block << 12)
      try handle.write(contentsOf: Data(content(block, version: version)))
    }
    try handle.close()
  }
}

extension StoredIndex {
  /// The block that holds `content`, if the index has one.
  func find(_ content: [UInt8]) -> UInt32? {
    var identity: [UInt8]?
    let span = content.span.bytes
    return find(span, IndexedBlock.tag(of: span), &identity) { _ in true }
  }
}
