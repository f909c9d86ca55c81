import Base
import Compaction
import Testing

/// What the copy of a disk holds, put together of what was written to it.
@Suite struct CopiedBlocksTests {
  static let seed: UInt64 = 77

  /// What a block holds in one of its versions.
  static func content(_ block: UInt64, _ version: UInt64 = 0) -> [UInt8] {
    var random = SplitMix64(seed: block &* 1_000_003 &+ version &* 7919 &+ 1)
    var bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: block), count: Page.size)
    bytes.replaceSubrange(100..<108, with: withUnsafeBytes(of: random.next()) { Array($0) })
    return bytes
  }

  static func hash(_ content: [UInt8]) -> UInt64 {
    SentMemory.hash(content.span.bytes, seed: seed)
  }

  /// A disk, what is known of its copy, and one connection to it.
  struct Disk {
    var bytes: [UInt8]
    var known: CopiedBlocks
    var cutter = BlockCutter(seed: seed)

    init(blocks: Int, byteLimit: UInt64 = 1 << 20) throws {
      bytes = [UInt8](repeating: 0, count: blocks * Page.size)
      known = try #require(
        CopiedBlocks(
          byteCount: UInt64(bytes.count), takenBytes: UInt64(bytes.count), byteLimit: byteLimit))
    }

    mutating func write(_ data: [UInt8], at offset: Int) {
      bytes.replaceSubrange(offset..<offset + data.count, with: data)
      var changes: [BlockCutter.Change] = []
      cutter.take(data.span.bytes, at: UInt64(offset), into: &changes)
      for change in changes { known.apply(change) }
    }

    mutating func clear(_ offset: Int, _ length: Int) {
      bytes.replaceSubrange(
        offset..<offset + length, with: [UInt8](repeating: 0, count: length))
      var changes: [BlockCutter.Change] = []
      cutter.clear(offset: UInt64(offset), length: UInt64(length), into: &changes)
      for change in changes { known.apply(change) }
    }

    func block(_ number: Int) -> [UInt8] {
      Array(bytes[number * Page.size..<(number + 1) * Page.size])
    }

    func find(_ content: [UInt8]) -> Int? { known.find(hash(content)).map { Int($0) } }
  }

  @Test(arguments: [1, 2, 3] as [UInt64]) func piecesInAnyOrderAreFound(seed: UInt64) throws {
    var disk = try Disk(blocks: 500)
    var random = SplitMix64(seed: seed)
    for run in Array(0..<50).shuffled(using: &random) {
      let data = (0..<10).flatMap { Self.content(UInt64(run * 10 + $0)) }
      // One request, which comes in pieces.
      var place = 0
      while place < data.count {
        let length = min(1 + Int(random.next() % 9000), data.count - place)
        disk.write(Array(data[place..<place + length]), at: run * 10 * Page.size + place)
        place += length
      }
    }
    let found = (0..<500).map { disk.find(disk.block($0)) }
    #expect(zip(found, 0..<500).allSatisfy { $0 == nil || $0 == $1 }, "seed \(seed)")
    // Contents that meet in one set push each other out.
    #expect(found.count { $0 != nil } > 480, "seed \(seed)")
    #expect(disk.find(Self.content(1000)) == nil)
  }

  /// Whatever is found is there, but for an accident in 255; and most of what was written as whole blocks is found.
  @Test(arguments: [4, 5, 6, 7] as [UInt64]) func whatIsWrittenAgainIsForgotten(seed: UInt64) throws
  {
    var disk = try Disk(blocks: 256)
    var random = SplitMix64(seed: seed)
    var old: [[UInt8]] = []
    for step in 0..<2000 as Range<UInt64> {
      let block = Int(random.next() % 256)
      switch random.next() % 8 {
      case 0:
        // A part of it, not from its beginning.
        disk.write([UInt8](repeating: UInt8(step % 200), count: 512), at: block * Page.size + 512)
      case 1: disk.clear(block * Page.size, Page.size)
      default:
        old.append(disk.block(block))
        disk.write(Self.content(UInt64(block), step + 1), at: block * Page.size)
      }
    }
    var wrong = 0
    for content in old {
      if let found = disk.find(content), disk.block(found) != content { wrong += 1 }
    }
    #expect(wrong < old.count / 60, "seed \(seed): \(wrong) of \(old.count)")
    // Two in eight steps make a block unknown.
    let found = (0..<256).count { disk.find(disk.block($0)) == $0 }
    #expect((120...240).contains(found), "seed \(seed): \(found)")
  }

  @Test func halvesMakeABlockWhenTheyFollowOneAnother() throws {
    var disk = try Disk(blocks: 8)
    let content = Self.content(3)
    disk.write(Array(content[..<1000]), at: 3 * Page.size)
    #expect(disk.find(content) == nil)
    disk.write(Array(content[1000...]), at: 3 * Page.size + 1000)
    #expect(disk.find(content) == 3)
    // Something else between the halves: nobody knows.
    let other = Self.content(4)
    disk.write(Array(other[..<1000]), at: 4 * Page.size)
    disk.write(Self.content(5), at: 5 * Page.size)
    disk.write(Array(other[1000...]), at: 4 * Page.size + 1000)
    #expect(disk.find(other) == nil && disk.find(Self.content(5)) == 5)
    disk.clear(3 * Page.size + 4095, 1)
    #expect(disk.find(content) == nil)
  }

  /// One content in two blocks: the first counts, until it holds something else.
  @Test func theSecondBlockTakesThePlace() throws {
    var disk = try Disk(blocks: 8)
    let content = Self.content(1)
    disk.write(content, at: 0)
    disk.write(content, at: Page.size)
    #expect(disk.find(content) == 0)
    disk.write(Self.content(9), at: 0)
    #expect(disk.find(content) == nil)
    disk.write(content, at: Page.size)
    #expect(disk.find(content) == 1)
  }

  @Test func memoryIsBounded() throws {
    let limit: UInt64 = 64 << 10
    var disk = try Disk(blocks: 20_000, byteLimit: limit)
    #expect(disk.known.byteCount <= limit)
    for block in 0..<20_000 { disk.write(Self.content(UInt64(block)), at: block * Page.size) }
    let found = (0..<20_000).count { disk.find(disk.block($0)) == $0 }
    #expect((3000...6000).contains(found), "\(found)")
    // A disk whose blocks alone take more than half; one that is beyond all; none.
    for bytes in [40_000 << 12, 1 << 62, 100] as [UInt64] {
      #expect(CopiedBlocks(byteCount: bytes, takenBytes: 0, byteLimit: limit) == nil)
    }
    // What is said of a disk's content does not count beyond its size.
    let said = try #require(
      CopiedBlocks(byteCount: 1 << 22, takenBytes: .max, byteLimit: 1 << 30))
    #expect(said.byteCount < 1 << 16)
  }

  @Test func hostilePlacesDoNoHarm() throws {
    var disk = try Disk(blocks: 4)
    disk.write(Self.content(0), at: 0)
    var changes: [BlockCutter.Change] = []
    let page = Self.content(7)
    for offset in [.max, .max - 4095, .max - 4096, 1 << 62, 4 << 12] as [UInt64] {
      disk.cutter.take(page.span.bytes, at: offset, into: &changes)
      disk.cutter.clear(offset: offset, length: .max, into: &changes)
      disk.cutter.clear(offset: offset, length: 1, into: &changes)
    }
    for change in changes + [.unknown(3..<(1 << 60)), .unknown(1 << 50..<1 << 60)] {
      disk.known.apply(change)
    }
    #expect(disk.find(Self.content(0)) == 0 && disk.find(page) == nil)
  }
}
