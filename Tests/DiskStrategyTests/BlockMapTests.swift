import Base
import DiskStrategy
import Testing

@Suite struct BlockMapTests {
  @Test func geometry() throws {
    #expect(DiskGeometry(byteCount: 0) == nil)
    #expect(DiskGeometry(byteCount: DiskGeometry.byteCountMax + 1) == nil)
    let disk = try #require(DiskGeometry(byteCount: 10_000))
    #expect(disk.blockCount == 3 && disk.chunkCount == 1)
    #expect(disk.touched(at: 0, count: 1) == 0..<1)
    #expect(disk.touched(at: 4095, count: 2) == 0..<2)
    #expect(disk.touched(at: 4096, count: 0).isEmpty)
    #expect(disk.touched(at: 9999, count: .max) == 2..<3)
    #expect(disk.touched(at: 10_000, count: 1).isEmpty)
    #expect(disk.covered(at: 0, count: 4095).isEmpty)
    #expect(disk.covered(at: 1, count: 9000) == 1..<2)
    // The last block is shorter: what there is of it is all of it.
    #expect(disk.covered(at: 4096, count: 5904) == 1..<3)
    #expect(disk.bytes(of: 1..<3) == 4096..<10_000)
  }

  @Test func aSendIsForgottenWhenTheGuestWritesMeanwhile() throws {
    var map = BlockMap(try #require(DiskGeometry(byteCount: 1 << 20)))
    map.begin(0..<4)
    map.note(1..<2)
    map.end(0..<4, arrived: true)
    #expect(!map.needed[0] && map.needed[1] && !map.needed[2])
    #expect(map.unflushedCount == 3)
    #expect(map.openWord(0) == .max)
    let flushes = [map.beginFlush(), map.beginFlush()]
    #expect(flushes == [true, false])
    map.note(2..<3)
    map.endFlush(true) { #expect($0 == 0) }
    #expect(map.openWord(0) & 0xF == 0b0110)
  }

  @Test func aBrokenConnectionTakesBackWhatWasNotFlushed() throws {
    var map = BlockMap(try #require(DiskGeometry(byteCount: 1 << 20)))
    map.begin(0..<64)
    map.end(0..<64, arrived: true)
    let flushes = map.beginFlush()
    #expect(flushes)
    map.begin(64..<128)
    map.end(64..<128, arrived: true)
    map.loseUnflushed()
    #expect(map.needed.population == 256 - 64)
    map.endFlush(false) { _ in }
    #expect(map.needed.population == 256 && map.unflushedCount == 0)
    map.begin(3..<5)
    map.end(3..<5, arrived: false)
    #expect(map.needed.population == 256)
  }

  /// What is drawn is what nobody has to send, wherever that lies; the last chunk has bits that are no blocks'.
  @Test(arguments: 1...8 as ClosedRange<UInt64>) func syncedBlocksAreDrawn(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let geometry = try #require(DiskGeometry(byteCount: 4096 * (64 * 40 + 1 + seed % 64)))
    var map = BlockMap(geometry)
    #expect(!map.hasSynced && map.syncedBlock(using: &random) == nil)
    let synced: Set<Int> = [0, 77, 78, 900, geometry.blockCount - 1]
    for block in synced {
      map.begin(block..<block + 1)
      map.end(block..<block + 1, arrived: true)
    }
    // What has arrived and isn't flushed may be lost.
    #expect(!map.hasSynced && map.syncedBlock(using: &random) == nil)
    let flushes = map.beginFlush()
    map.endFlush(true) { _ in }
    #expect(flushes && map.hasSynced && map.isSynced(77) && !map.isSynced(79))
    var drawn: Set<Int> = []
    for _ in 0..<1000 { if let block = map.syncedBlock(using: &random) { drawn.insert(block) } }
    #expect(drawn == synced, "seed \(seed): \(drawn)")
    map = BlockMap(geometry, filled: false)
    let last = (0..<5000).compactMap { _ in map.syncedBlock(using: &random) }.max() ?? 0
    #expect(last < geometry.blockCount && last >= geometry.blockCount - 1 - Int(seed % 64))
  }

  @Test func runs() throws {
    var map = BlockMap(try #require(DiskGeometry(byteCount: 256 * 4096)), filled: false)
    for blocks in [3..<7, 60..<70, 200..<256] { map.note(blocks) }
    #expect(map.nextRun(from: 0) == 3..<7)
    #expect(map.nextRun(from: 5) == 5..<7)
    #expect(map.nextRun(from: 7) == 60..<64)
    #expect(map.nextRun(from: 64) == 64..<70)
    #expect(map.nextRun(from: 70) == 200..<256)
    #expect(map.nextRun(from: 256) == nil)
    #expect(map.previousRun(before: 256) == 200..<256)
    #expect(map.previousRun(before: 200) == 64..<70)
    #expect(map.previousRun(before: 66) == 64..<66)
    #expect(map.previousRun(before: 64) == 60..<64)
    #expect(map.previousRun(before: 3) == nil)
    map.begin(61..<63)
    #expect(map.nextRun(from: 7) == 60..<61)
    #expect(map.nextRun(from: 61) == 63..<64)
    #expect(map.previousRun(before: 64) == 63..<64)
    #expect(map.freeRun(in: 58..<64) == 60..<61)
    #expect(!map.isFree(60..<70) && map.isFree(0..<61))
  }

  /// A model of both sides: each block has a version at the source, in the destination's memory, and on
  /// its stable storage. Writes, sends, flushes, and connections that break with the destination's power
  /// in any order; what the map calls synced is the same on stable storage.
  @Test(arguments: UInt64(1)...200) func neverSyncedWhenItIsNot(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let count = 130
    var map = BlockMap(try #require(DiskGeometry(byteCount: UInt64(count) * 4096)))
    var source = [Int](repeating: 1, count: count)
    var (memory, stable) = ([Int](repeating: 0, count: count), [Int](repeating: 0, count: count))
    var sends: [(blocks: Range<Int>, content: [Int])] = []
    // The destination's memory when the flush was asked for, if one is under way.
    var flush: [Int]?
    var version = 1
    func pick(_ most: Int) -> Range<Int> {
      let first = Int(random.next() % UInt64(count))
      return first..<min(count, first + 1 + Int(random.next() % UInt64(most)))
    }
    for step in 0..<400 {
      switch random.next() % 8 {
      case 0, 1:
        let blocks = pick(20)
        map.note(blocks)
        version += 1
        for block in blocks { source[block] = version }
        map.note(blocks)
      case 2, 3:
        let from = Int(random.next() % UInt64(count))
        guard let run = map.nextRun(from: from) else { continue }
        map.begin(run)
        sends.append((run, Array(source[run])))
      case 4, 5:
        guard !sends.isEmpty else { continue }
        let send = sends.remove(at: Int(random.next() % UInt64(sends.count)))
        let arrived = random.next() % 8 != 0
        // One whose answer was lost may have arrived all the same.
        for (block, content) in zip(send.blocks, send.content) { memory[block] = content }
        map.end(send.blocks, arrived: arrived)
      case 6:
        if let flushed = flush {
          stable = flushed
          map.endFlush(true) { _ in }
          flush = nil
        } else if map.beginFlush() {
          flush = memory
        }
      default:
        guard random.next() % 4 == 0 else { continue }
        memory = stable
        for send in sends { map.end(send.blocks, arrived: false) }
        sends = []
        map.loseUnflushed()
        if flush != nil {
          map.endFlush(false) { _ in }
          flush = nil
        }
      }
      for block in 0..<count where map.openWord(block >> 6) >> UInt64(block & 63) & 1 == 0 {
        guard stable[block] == source[block] else {
          Issue.record("block \(block) at step \(step), seed \(seed)")
          return
        }
      }
    }
  }
}
