import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Testing

@testable import BlockStore

/// A disk and its surrogate, without a move.
@Suite struct OutsourcedTests {
  static let byteCount = (8 << 20) + 1000
  let folder = try! ScratchFolder()
  private var path: String { folder.path + "/disk.map.surrogate" }

  private func begin(
    _ disk: OutsourcedStore, _ surrogate: FailingSurrogate, limit: UInt64? = nil
  ) throws {
    var wish = surrogate.wish
    wish.byteCountMax = limit
    try disk.begin(
      wish, SurrogateLink.make(wish.place), path: path, identity: "one", settle: {})
  }

  private func make(_ seed: UInt64) throws -> (VolatileStore, [UInt8]) {
    var random = SplitMix64(seed: seed)
    let original = VolatileStore(byteCount: Self.byteCount, isPrompt: false)
    let bytes = random.bytes(4096)
    let whole = (0..<Self.byteCount).map { bytes[$0 % 4096] ^ UInt8(truncatingIfNeeded: $0 >> 12) }
    try original.put(whole, at: 0, durable: true)
    return (original, whole)
  }

  /// Reads, writes, zeros, of any place and length; each read is compared.
  private func use(
    _ disk: OutsourcedStore, _ model: inout [UInt8], _ random: inout SplitMix64, steps: Int
  ) throws {
    for step in 0..<steps {
      var start = Int(random.next() % UInt64(Self.byteCount))
      if random.next() % 3 != 0 { start %= 600_000 }
      if random.next() % 40 == 0 { start = Self.byteCount - 1 - start % 3000 }
      var count = 1 + Int(random.next() % (random.next() % 16 == 0 ? 2_000_000 : 30_000))
      if random.next() % 2 == 0 { (start, count) = (start & ~4095, (count + 4095) & ~4095) }
      count = min(count, Self.byteCount - start)
      let range = start..<(start + count)
      switch random.next() % 8 {
      case 0:
        try disk.zero(at: UInt64(start), count: UInt64(count), [])
        model.replaceSubrange(range, with: repeatElement(0, count: count))
      case 1: try disk.flush()
      case 2:
        // With a surrogate that changes nothing.
        guard disk.surrogateStatus?.phase == .inUse else { continue }
        try disk.trim(at: UInt64(start), count: UInt64(count))
      case 3, 4:
        var bytes = [UInt8](repeating: 0, count: count)
        let isDone = bytes.withUnsafeMutableBytes {
          disk.readAtOnce(at: UInt64(start), into: $0)
        }
        if isDone != true { bytes = try disk.bytes(at: UInt64(start), count: count) }
        try #require(difference(bytes, Array(model[range])) == nil, "step \(step)")
      default:
        let value = UInt8(truncatingIfNeeded: random.next())
        let bytes = (0..<count).map { value &+ UInt8(truncatingIfNeeded: $0 >> 8) }
        try disk.put(bytes, at: UInt64(start), durable: random.next() % 8 == 0)
        model.replaceSubrange(range, with: bytes)
      }
    }
    let whole = try disk.bytes(at: 0, count: Self.byteCount)
    try #require(difference(whole, model) == nil)
    var copied = [UInt8](repeating: 1, count: Self.byteCount)
    try copied.withUnsafeMutableBytes { try disk.fetch(at: 0, into: $0) }
    try #require(difference(copied, model) == nil)
  }

  private func untilBack(_ disk: OutsourcedStore) async throws {
    try await WorkerThread.run("back") {
      while disk.isInUse || disk.state.read({ $0.keeperCount > 0 }) {
        MonotonicClock.sleep(us: 1000)
      }
    }
  }

  /// With room for everything, with so little that it has to be cleaned, with too little.
  @Test(.timeLimit(.minutes(2)), arguments: [64, 21, 13])
  func theDiskIsWhatWasWritten(mebibytes: Int) async throws {
    let seed = UInt64(mebibytes)
    let (original, first) = try make(seed)
    var model = first
    var random = SplitMix64(seed: seed)
    let surrogate = FailingSurrogate(byteCount: mebibytes << 20)
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try use(disk, &model, &random, steps: 10)
    try begin(disk, surrogate)
    let before = try original.bytes(at: 0, count: Self.byteCount)
    // What is read often is copied, and read there. Twice is often; a third time might be after the copy.
    for _ in 0..<2 {
      #expect(try disk.bytes(at: 7 << 20, count: 4096) == Array(model[7 << 20..<(7 << 20) + 4096]))
    }
    try await WorkerThread.run("copied") {
      while disk.surrogateStatus?.copiedBytes != 4096 { MonotonicClock.sleep(us: 1000) }
    }
    #expect(try disk.bytes(at: 7 << 20, count: 4096) == Array(model[7 << 20..<(7 << 20) + 4096]))
    #expect(disk.surrogateStatus?.reads == 1)
    try use(disk, &model, &random, steps: 250)
    let status = try #require(disk.surrogateStatus)
    #expect(
      status.phase == .inUse && status.problem == nil && status.onlyHereBytes > 0, "\(status)")
    if mebibytes == 64 {
      #expect(try difference(original.bytes(at: 0, count: Self.byteCount), before) == nil)
      #expect(status.refusedWrites == 0, "\(status)")
    }
    if mebibytes == 13 {
      // More than it holds.
      model = random.bytes(4096) + model.dropFirst(4096).map { $0 ^ 0x55 }
      try disk.put(model, at: 0)
      #expect(disk.surrogateStatus?.refusedWrites ?? 0 > 0, "\(status)")
    }
    disk.giveBack()
    try use(disk, &model, &random, steps: 50)
    try await untilBack(disk)
    #expect(try difference(original.bytes(at: 0, count: Self.byteCount), model) == nil)
    try use(disk, &model, &random, steps: 10)
    #expect(!FileManager.default.fileExists(atPath: path))
    // And once more, with the same surrogate.
    try begin(disk, surrogate, limit: 13 << 20)
    try use(disk, &model, &random, steps: 50)
    disk.giveBack()
    try await untilBack(disk)
    #expect(try difference(original.bytes(at: 0, count: Self.byteCount), model) == nil)
  }

  /// A server that is killed leaves the file and the log; the next one has every write.
  @Test(.timeLimit(.minutes(2)), arguments: [true, false], 1...2 as ClosedRange<UInt64>)
  func theNextServerHasItAll(isWanted: Bool, seed: UInt64) async throws {
    let (original, first) = try make(seed)
    var model = first
    var random = SplitMix64(seed: seed)
    let surrogate = FailingSurrogate()
    for life in 0..<3 {
      let disk = OutsourcedStore(original, name: "disk") { _ in }
      try disk.revive(path: path, identity: "one", isWanted: true) { name in
        #expect(name == "the surrogate")
        return surrogate.place
      }
      // It goes back at once: all of it may be there by now.
      if life == 1 { #expect(disk.isInUse || disk.state.read { $0.returnedBytes > 0 }) }
      // Killed once more while it gives back.
      if life > 0, seed % 2 == 0 {
        try use(disk, &model, &random, steps: 2)
        disk.suspend()
        continue
      }
      try use(disk, &model, &random, steps: 20)
      try await WorkerThread.run("back") { disk.giveBack() }
      try await untilBack(disk)
      try begin(disk, surrogate)
      try use(disk, &model, &random, steps: 60)
      // As killed: nothing is given back.
      disk.suspend()
    }
    let last = OutsourcedStore(original, name: "disk") { _ in }
    if seed % 2 != 0 {
      #expect(throws: MoveError.self) {
        try last.revive(path: path, identity: "another", isWanted: true) { _ in surrogate.place }
      }
      // Without its surrogate the disk is none.
      #expect(throws: MoveError.self) {
        try last.revive(path: path, identity: "one", isWanted: true) { _ in
          FailingSurrogate().place
        }
      }
    }
    try last.revive(path: path, identity: "one", isWanted: isWanted) { _ in surrogate.place }
    guard isWanted else {
      #expect(!last.isInUse && !FileManager.default.fileExists(atPath: path))
      return
    }
    try use(last, &model, &random, steps: 20)
    try await untilBack(last)
    #expect(try difference(original.bytes(at: 0, count: Self.byteCount), model) == nil)
  }

  /// A surrogate behind a network: its connection breaks, and nothing is lost that its server has. A flush that can't
  /// know whether it still has it says so.
  @Test(.timeLimit(.minutes(1)), arguments: [true, false])
  func anExportWhoseConnectionBreaks(isFlushed: Bool) async throws {
    let (original, first) = try make(5)
    let target = try FailingTarget(byteCount: 24 << 20)
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    let model = try await WorkerThread.run("use") { () throws -> [UInt8] in
      var (model, random) = (first, SplitMix64(seed: 5))
      let place = SurrogatePlace(name: "export") { try target.destination.connect() }
      try disk.begin(
        SurrogateWish(place), SurrogateLink.make(place), path: path, identity: "one", settle: {})
      try use(disk, &model, &random, steps: 40)
      try disk.flush()
      if !isFlushed {
        try disk.put([7, 7, 7], at: 100)
        model.replaceSubrange(100..<103, with: [7, 7, 7])
      }
      target.cut()
      // Reads are dialled anew.
      #expect(try difference(disk.bytes(at: 0, count: Self.byteCount), model) == nil)
      if isFlushed {
        try use(disk, &model, &random, steps: 40)
      } else {
        #expect(throws: StoreError.self) { try disk.flush() }
        #expect(disk.surrogateStatus?.phase != .inUse)
      }
      // And once more, while it is written to.
      target.cut()
      try disk.put([8, 8, 8], at: 50_000)
      model.replaceSubrange(50_000..<50_003, with: [8, 8, 8])
      return model
    }
    disk.giveBack()
    try await untilBack(disk)
    #expect(try difference(original.bytes(at: 0, count: Self.byteCount), model) == nil)
    try disk.flush()
  }

  /// The power fails: each block has what it had at the last flush, or something newer.
  @Test(.timeLimit(.minutes(2)), arguments: 1...4 as ClosedRange<UInt64>)
  func aFlushIsKept(seed: UInt64) async throws {
    var random = SplitMix64(seed: seed)
    let (original, _) = try make(seed)
    let surrogate = FailingSurrogate(byteCount: seed % 2 == 0 ? 13 << 20 : 24 << 20)
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    let count = Self.byteCount / 4096
    var (written, flushed) = ([UInt32](repeating: 0, count: count), [Int: UInt32]())
    try begin(disk, surrogate)
    // What of the file is on stable storage at least: as it was when a flush had ended, the guest's or the one
    // that the cleaning has to have before it uses a segment again.
    var mapped: [UInt8] = []
    var coveredCount: UInt64 = 0
    func noteFlush() {
      let count = disk.state.read { $0.flushedCount }
      guard count != coveredCount else { return }
      coveredCount = count
      mapped = (try? Array(Data(contentsOf: URL(filePath: path)))) ?? mapped
    }
    for version in 1...300 as ClosedRange<UInt32> {
      let hot = random.next() % 3 != 0 ? 64 : UInt64(count - 16)
      let first = Int(random.next() % hot)
      let blocks = first..<(first + 1 + Int(random.next() % 16))
      let bytes = [UInt32](repeating: version.littleEndian, count: blocks.count << 10)
        .withUnsafeBytes { Array($0) }
      try disk.put(bytes, at: UInt64(first) * 4096)
      for block in blocks { written[block] = version }
      if version == 250, seed % 3 == 0 { disk.giveBack() }
      noteFlush()
      guard version == 1 || random.next() % 40 == 0 else { continue }
      try disk.flush()
      for block in written.indices where written[block] > 0 { flushed[block] = written[block] }
      noteFlush()
    }
    // Nothing changes any more.
    disk.suspend()
    noteFlush()
    // All may have gone back already.
    if let data = try? Data(contentsOf: URL(filePath: path)) {
      var file = Array(data)
      // What is in the file may have been written back since the flush, or not.
      for word in [88] + stride(from: 12_288, to: file.count, by: 8) where random.next() % 2 == 0 {
        file.replaceSubrange(word..<(word + 8), with: mapped[word..<(word + 8)])
      }
      // Another run of the kernel finds it.
      file.replaceSubrange(24..<32, with: repeatElement(0, count: 8))
      file.replaceSubrange(40..<76, with: repeatElement(UInt8(ascii: "x"), count: 36))
      try Data(file).write(to: URL(filePath: path))
    }
    original.restart(&random)
    surrogate.store.losePower(&random)
    let next = OutsourcedStore(original, name: "disk") { _ in }
    try next.revive(path: path, identity: "one", isWanted: true) { _ in surrogate.place }
    for (block, version) in flushed {
      let bytes = try next.bytes(at: UInt64(block) * 4096, count: 4)
      let found = bytes.enumerated().reduce(UInt32(0)) {
        $0 | UInt32($1.element) << ($1.offset * 8)
      }
      #expect(
        found >= version && found <= 300, "block \(block): \(found) for \(version), seed \(seed)")
    }
    try await untilBack(next)
  }
}
