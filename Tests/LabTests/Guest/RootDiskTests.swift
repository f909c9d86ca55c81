import Base
import Foundation
import HostIO
import Testing

@testable import Lab

@Suite(
  .serialized, .timeLimit(.minutes(5)),
  .enabled(if: SmallFile.isExecutable("/usr/sbin/mke2fs"), "skipped: no mke2fs (e2fsprogs)"))
struct RootDiskTests {
  /// An ext4 file system with about as much in it as was asked for, made once.
  @Test func aFileSystemOfThisMachinesFiles() async throws {
    let folder = "/tmp/godwit-root-\(UUID().uuidString.prefix(8))"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let cache = CacheFolder(path: folder)
    let path = try await RootDisk.prepare(.mebibytes(16), cache: cache)
    let image = try Data(contentsOf: URL(filePath: path), options: .mappedIfSafe)
    #expect(image.count >= 48 << 20)
    // Magic of ext2 and its successors, and the label.
    #expect(image[1024 + 56] == 0x53 && image[1024 + 57] == 0xEF)
    #expect(image[(1024 + 120)..<(1024 + 131)].elementsEqual("godwit-root".utf8))
    let size = try await Command.run("du", ["--block-size=1", path])
    let used = try #require(UInt64(size.prefix { $0.isNumber }))
    #expect((14 << 20...32 << 20).contains(used), "\(used)")
    let made = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
    #expect(try await RootDisk.prepare(.mebibytes(16), cache: cache) == path)
    let again = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
    #expect(made != nil && made == again)
    let left = try FileManager.default.subpathsOfDirectory(atPath: folder)
    #expect(!left.contains { $0.contains(".partial") }, "\(left)")
  }
}
