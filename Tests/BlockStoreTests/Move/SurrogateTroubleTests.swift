import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Synchronization
import Testing

@testable import BlockStore

/// A surrogate that is too small for what is written, and one that loses what it said it had.
@Suite struct SurrogateTroubleTests {
  let folder = try! ScratchFolder()
  private var path: String { folder.path + "/disk.map.surrogate" }

  private func untilBack(_ disk: OutsourcedStore) {
    while disk.isInUse || disk.state.read({ $0.keeperCount > 0 }) { MonotonicClock.sleep(us: 1000) }
  }

  /// Several threads write blocks one by one as fast as they can, and others read all of it at once. Everybody gets on,
  /// and when nobody writes any more the log is left alone.
  @Test(.timeLimit(.minutes(2)), arguments: 1...2 as ClosedRange<UInt64>)
  func singleBlocksAsFastAsTheyGo(seed: UInt64) async throws {
    let byteCount = 16 << 20
    let original = VolatileStore(byteCount: byteCount, isPrompt: false)
    let surrogate = FailingSurrogate(byteCount: (13 + 4 * Int(seed)) << 20)
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try await WorkerThread.run("use") {
      try disk.begin(
        surrogate.wish, SurrogateLink.make(surrogate.place), path: path, identity: "one", settle: {}
      )
      // Of each block who wrote it, and how often.
      let (writers, blocks) = (3, 480 + 200 * Int(seed))
      let newest = Guarded<[[UInt32]]>(
        Array(repeating: Array(repeating: 0, count: blocks), count: writers))
      let left = Guarded((threads: writers + 2, problem: String?.none))
      for writer in 0..<writers {
        _ = WorkerThread("writer") {
          var random = SplitMix64(seed: seed &* 10 &+ UInt64(writer))
          for version in 1...2500 as ClosedRange<UInt32> {
            let number = Int(random.next() % UInt64(blocks))
            let block = number * writers + writer
            do {
              try disk.put(Self.content(block, version), at: UInt64(block * 4096))
              if version % 500 == 0 { try disk.flush() }
            } catch { left.update { $0.problem = "\(error)" } }
            newest.update { $0[writer][number] = version }
          }
          left.update { $0.threads -= 1 }
        }
      }
      for reader in 0..<2 {
        _ = WorkerThread("reader") {
          for _ in 0..<8 {
            let before = newest.read { $0 }
            guard let bytes = try? disk.bytes(at: 0, count: blocks * writers * 4096) else {
              left.update { $0.problem = "can't read" }
              break
            }
            for block in stride(from: reader, to: blocks * writers, by: 7) {
              let found = Self.version(bytes[(block * 4096)..<((block + 1) * 4096)], block)
              if found ?? 0 < before[block % writers][block / writers] {
                left.update { $0.problem = "block \(block): \(String(describing: found))" }
              }
            }
          }
          left.update { $0.threads -= 1 }
        }
      }
      while left.wait(timeoutMs: 1000, until: { $0.threads == 0 ? true : nil }) == nil {}
      #expect(left.read { $0.problem } == nil)
      let status = try #require(disk.surrogateStatus)
      #expect(status.phase == .inUse && status.writes > 0, "\(status)")
      // It comes to rest.
      var (writes, quiet) = (-1, 0)
      while quiet < 5 {
        MonotonicClock.sleep(us: 50_000)
        let now = surrogate.store.writes.load(ordering: .relaxed)
        (quiet, writes) = (now == writes ? quiet + 1 : 0, now)
      }
      disk.giveBack()
      untilBack(disk)
      let bytes = try original.bytes(at: 0, count: byteCount)
      for (writer, versions) in newest.read({ $0 }).enumerated() {
        for (number, version) in versions.enumerated() {
          let block = number * writers + writer
          let found = Self.version(bytes[(block * 4096)..<((block + 1) * 4096)], block)
          #expect(found == version, "block \(block)")
        }
      }
    }
  }

  /// Each block says what it is.
  private static func content(_ block: Int, _ version: UInt32) -> [UInt8] {
    let word = [UInt32(block), version].flatMap { value in
      (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }
    return (0..<512).flatMap { _ in word }
  }

  /// nil: another block's, or torn. Zeros are version 0.
  private static func version(_ bytes: ArraySlice<UInt8>, _ block: Int) -> UInt32? {
    let version = bytes.dropFirst(4).prefix(4).enumerated().reduce(UInt32(0)) {
      $0 | UInt32($1.element) << ($1.offset * 8)
    }
    let isWhole =
      version == 0 ? bytes.allSatisfy { $0 == 0 } : bytes == content(block, version)[...]
    return isWhole ? version : nil
  }

  /// The surrogate's host loses its power, and comes back without what it hadn't flushed: each read afterwards gives the
  /// newest or is an error, and nothing old goes back to the disk.
  @Test(.timeLimit(.minutes(2)), arguments: 1...4 as ClosedRange<UInt64>)
  func whatIsLostIsNotReadAsSomethingElse(seed: UInt64) async throws {
    let count = 600
    let original = VolatileStore(byteCount: count * 4096, isPrompt: false)
    let target = try FailingTarget(byteCount: 24 << 20)
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try await WorkerThread.run("use") {
      var random = SplitMix64(seed: seed)
      let place = SurrogatePlace(name: "export", export: target.destination)
      try disk.begin(
        SurrogateWish(place), SurrogateLink.make(place), path: path, identity: "one", settle: {})
      var newest = [UInt32](repeating: 0, count: count)
      func write(_ steps: ClosedRange<UInt32>) throws {
        for version in steps {
          let first = Int(random.next() % UInt64(count - 16))
          let blocks = first..<(first + 1 + Int(random.next() % 16))
          try disk.put(blocks.flatMap { Self.content($0, version) }, at: UInt64(first * 4096))
          for block in blocks { newest[block] = version }
        }
      }
      try write(1...100)
      try disk.flush()
      try write(101...160)
      target.cut(power: &random)
      var lost: [Int] = []
      for block in 0..<count {
        guard let bytes = try? disk.bytes(at: UInt64(block * 4096 + 5), count: 4000) else {
          lost.append(block)
          continue
        }
        let isNewest = bytes == Array(Self.content(block, newest[block])[5..<4005])
        #expect(newest[block] == 0 ? bytes.allSatisfy { $0 == 0 } : isNewest, "block \(block)")
      }
      // By chance half of the records are.
      #expect(!lost.isEmpty && lost.count < count / 2, "\(lost.count)")
      #expect(throws: StoreError.self) { try disk.flush() }
      #expect(disk.surrogateStatus?.phase == .returning)
      // The rest goes back, and what is lost stays an error.
      let lostBytes = UInt64(lost.count * 4096)
      while disk.surrogateStatus?.onlyHereBytes != lostBytes { MonotonicClock.sleep(us: 1000) }
      for block in 0..<count {
        let bytes = try original.bytes(at: UInt64(block * 4096), count: 4096)
        guard !lost.contains(block) else { continue }
        #expect(Self.version(bytes[...], block) == newest[block], "block \(block)")
      }
      for block in lost {
        #expect(throws: StoreError.self) { try disk.bytes(at: UInt64(block * 4096), count: 4096) }
      }
      // Written anew it is none.
      for block in lost { try disk.put(Self.content(block, 999), at: UInt64(block * 4096)) }
      untilBack(disk)
      for block in lost {
        let bytes = try original.bytes(at: UInt64(block * 4096), count: 4096)
        #expect(Self.version(bytes[...], block) == 999)
      }
      try disk.flush()
    }
  }

  /// This server is killed, and the surrogate's host loses its power before the next one has begun.
  @Test(.timeLimit(.minutes(1))) func whatIsLostBetweenTwoServers() async throws {
    let count = 200
    let original = VolatileStore(byteCount: count * 4096, isPrompt: false)
    let surrogate = FailingSurrogate()
    try await WorkerThread.run("use") {
      var random = SplitMix64(seed: 8)
      let first = OutsourcedStore(original, name: "disk") { _ in }
      try first.begin(
        surrogate.wish, SurrogateLink.make(surrogate.place), path: path, identity: "one", settle: {}
      )
      for block in 0..<50 { try first.put(Self.content(block, 1), at: UInt64(block * 4096)) }
      try first.flush()
      for block in 40..<120 { try first.put(Self.content(block, 2), at: UInt64(block * 4096)) }
      first.suspend()
      surrogate.store.losePower(&random)
      let next = OutsourcedStore(original, name: "disk") { _ in }
      try next.revive(path: path, identity: "one", isWanted: true) { _ in surrogate.place }
      var lost: [Int] = []
      for block in 0..<count {
        guard let bytes = try? next.bytes(at: UInt64(block * 4096), count: 4096) else {
          lost.append(block)
          continue
        }
        // Where an older record is left it is found: only what the log has nothing of is known to be lost.
        let versions: ClosedRange<UInt32> = block < 40 ? 1...1 : block < 50 ? 1...2 : 2...2
        let found = Self.version(bytes[...], block)
        #expect(block < 120 ? versions.contains(found ?? 99) : found == 0, "block \(block)")
      }
      #expect(lost.count > 20 && lost.allSatisfy { (50..<120).contains($0) }, "\(lost)")
      #expect(throws: StoreError.self) { try next.flush() }
      for block in lost { try next.put(Self.content(block, 3), at: UInt64(block * 4096)) }
      untilBack(next)
      try next.flush()
    }
  }

  /// What the original has, too, is read there when the surrogate can't give its copy.
  @Test(.timeLimit(.minutes(1))) func aCopyThatCantBeRead() async throws {
    let original = VolatileStore(byteCount: 1 << 20, isPrompt: false)
    let target = try FailingTarget(byteCount: 24 << 20)
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try await WorkerThread.run("use") {
      try original.put(Self.content(3, 7), at: 3 * 4096)
      var wish = SurrogateWish(SurrogatePlace(name: "export", export: target.destination))
      wish.popularity.threshold = 2
      try disk.begin(
        wish, SurrogateLink.make(wish.place), path: path, identity: "one", settle: {})
      while disk.surrogateStatus?.copiedBytes != 4096 {
        #expect(try disk.bytes(at: 3 * 4096, count: 4096) == Self.content(3, 7))
        MonotonicClock.sleep(us: 1000)
      }
      // Everything in the log becomes something else.
      try target.store.put([UInt8](repeating: 0xEE, count: 1 << 20), at: 4096)
      #expect(try disk.bytes(at: 3 * 4096, count: 4096) == Self.content(3, 7))
      #expect(disk.surrogateStatus?.phase == .inUse)
      disk.giveBack()
      untilBack(disk)
    }
  }

  /// Changes are made again with many on their way, and those that overlap in their order.
  @Test(.timeLimit(.minutes(1)), arguments: 1...4 as ClosedRange<UInt64>)
  func changesAreMadeAgainInOrder(seed: UInt64) async throws {
    let byteCount = 4 << 20
    let disk = VolatileStore(byteCount: byteCount, isPrompt: false)
    let server = try RunningServer(TornStore(disk))
    try await WorkerThread.run("again") {
      var random = SplitMix64(seed: seed)
      let unflushed = UnflushedWrites()
      let first = MoveLink(1, try server.connect())
      var model = [UInt8](repeating: 0, count: byteCount)
      for step in 0..<300 {
        var start = Int(random.next() % UInt64(byteCount - 400_000))
        if random.next() % 2 == 0 { start %= 60_000 }
        let count = 1 + Int(random.next() % (random.next() % 16 == 0 ? 300_000 : 9000))
        let range = start..<(start + count)
        if random.next() % 8 == 0 {
          try unflushed.zero(at: UInt64(start), count: UInt64(count), [], over: first)
          model.replaceSubrange(range, with: repeatElement(0, count: count))
        } else {
          let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 >> 6 &+ step) | 1 }
          try bytes.withUnsafeBytes {
            try unflushed.write($0, at: UInt64(start), durable: false, over: first)
          }
          model.replaceSubrange(range, with: bytes)
        }
      }
      first.close()
      disk.restart(&random)
      #expect(try difference(disk.bytes(at: 0, count: byteCount), model) != nil)
      let second = MoveLink(2, try server.connect())
      try unflushed.again(over: second)
      #expect(try difference(disk.bytes(at: 0, count: byteCount), model) == nil)
      try unflushed.flush(over: second)
      #expect(unflushed.count == 0)
      second.close()
    }
  }
}
