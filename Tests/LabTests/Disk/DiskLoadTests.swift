import Base
import Glibc
import Testing

@testable import Lab

@Suite struct DiskLoadTests {
  @Test func everyBlockAndVersionIsItsOwn() {
    let content = BlockContent(seed: 7, blockBytes: 4096)
    var words = [UInt64](repeating: 0, count: content.wordCount)
    #expect(words.count == 512)
    content.fill(&words, block: 5, version: 2)
    #expect(content.matches(words, block: 5, version: 2))
    #expect(!content.matches(words, block: 5, version: 1))
    #expect(!content.matches(words, block: 2, version: 5))
    #expect(!BlockContent(seed: 8, blockBytes: 4096).matches(words, block: 5, version: 2))
    // Torn: half of it is older.
    var older = words
    content.fill(&older, block: 5, version: 1)
    #expect(!content.matches(Array(words[..<256] + older[256...]), block: 5, version: 2))
    #expect(!content.matches(Array(words.dropLast()), block: 5, version: 2))
  }

  @Test func patterns() {
    var random = SplitMix64(seed: 1)
    var picker = BlockPicker(.sequential, count: 3)
    #expect((0..<5).map { _ in picker.next(&random) } == [0, 1, 2, 0, 1])
    picker = BlockPicker(.hotspot, count: 1000)
    let picked = (0..<4000).map { _ in picker.next(&random) }
    #expect(picked.allSatisfy { $0 < 1000 })
    // Nine tenths, and a tenth of the rest.
    #expect((3500...3750).contains(picked.count { $0 < 100 }))
    picker = BlockPicker(.uniform, count: 10)
    #expect(Set((0..<300).map { _ in picker.next(&random) }).count == 10)
    picker = BlockPicker(.hotspot, count: 0)
    #expect(picker.next(&random) == 0)
    picker = BlockPicker(.hotspot, count: 1000, hot: 10)
    let hot = (0..<4000).map { _ in picker.next(&random) }
    #expect((3500...3750).contains(hot.count { $0 < 10 }))
  }

  /// As many distinct blocks as asked for, within what the clients use, and the same ones each time.
  @Test(arguments: MatrixDisk.Load.Pattern.allCases)
  func whatIsChangedBefore(pattern: MatrixDisk.Load.Pattern) {
    var disk = MatrixDisk(name: "d", byteCount: 64 << 20)
    (disk.changedByteCount, disk.load.pattern, disk.load.usedPercent) = (4 << 20, pattern, 50)
    disk.load.hotByteCount = 1 << 20
    let blocks = DiskAging.blocks(disk, seed: 4)
    #expect(blocks.count == 1024 && blocks.allSatisfy { $0 < 8192 })
    #expect(blocks == DiskAging.blocks(disk, seed: 4) && blocks != DiskAging.blocks(disk, seed: 5))
    // The hot ones first.
    #expect((blocks.count { $0 < 256 } > 200) == (pattern == .hotspot))
    disk.changedByteCount = 0
    #expect(DiskAging.blocks(disk, seed: 4).isEmpty)
  }

  @Test func latencies() throws {
    let requests = (1...200).map { Latency.Request(endUs: UInt64($0) * 1000, tookUs: UInt32($0)) }
    let all = try #require(Latency(requests, fromUs: 0, toUs: 1_000_000))
    #expect(all.requests == 200 && all.perSecond == 200)
    #expect(all.medianUs == 100 && all.tailUs == 198)
    let part = try #require(Latency(requests, fromUs: 5000, toUs: 6000))
    #expect(part.requests == 1 && part.medianUs == 5 && part.tailUs == 5)
    #expect(part.perSecond == 1000)
    #expect(Latency(requests, fromUs: 300_000, toUs: 400_000) == nil)
    #expect(Latency(requests, fromUs: 5000, toUs: 5000) == nil)
  }

  @Test func imagesAreCompared() throws {
    var disk = MatrixDisk(name: "d", byteCount: 1 << 20)
    disk.load.blockBytes = 8192
    let path = "/tmp/godwit-lab-image-\(UInt64.random(in: 0...(.max)))"
    defer { _ = path.withCString { unlink($0) } }
    try DiskImage.make(path, disk, seed: 3)
    #expect(DiskImage.byteCount(of: path) == disk.byteCount)
    var versions = [UInt64](repeating: 0, count: 128)
    #expect(try DiskImage.differingPages(path, disk, seed: 3, versions: versions) == 0)
    versions[9] = 1
    #expect(try DiskImage.differingPages(path, disk, seed: 3, versions: versions) == 2)
    try DiskImage.makeEmpty(path, byteCount: disk.byteCount)
    #expect(try DiskImage.differingPages(path, disk, seed: 3, versions: versions) == 256)
    #expect(throws: LabError.self) {
      try DiskImage.makeEmpty(path, byteCount: 4096)
      _ = try DiskImage.differingPages(path, disk, seed: 3, versions: versions)
    }
  }
}
