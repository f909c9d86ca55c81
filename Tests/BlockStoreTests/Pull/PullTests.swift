import Base
import DiskStrategy
import Foundation
import Glibc
import HostIO
import NBD
import Testing

@testable import BlockStore

@Suite struct PullTests {
  /// Clients write and check what they read all the time, connections break, and in the end the image has everything.
  @Test(.timeLimit(.minutes(2)), arguments: UInt64(1)...6)
  func everythingComes(seed: UInt64) async throws {
    let image = TornStore(VolatileStore(byteCount: PullRig.byteCount, isPrompt: seed % 2 == 0))
    var limits = DiskPull.Limits()
    limits.redialUs = 30_000
    let rig = try PullRig(image, limits: limits)
    // Not before a client has missed something.
    try await rig.pull(bytesPerSecond: 12_000_000, isPaused: true)
    let load = try await WorkerThread.run("load") {
      try DiskLoad(rig.server, known: rig.content, seed: seed)
    }
    try await rig.until("missed") { $0.faults > 0 }
    try rig.movable.resumePull()
    var random = SplitMix64(seed: seed)
    // So often at most: on a slow machine nothing would come between two of them.
    for _ in 0..<50 where rig.movable.pullStatus?.phase.isOver == false && seed > 2 {
      try await Task.sleep(for: .milliseconds(20 + random.next() % 80))
      rig.source.cut()
    }
    let end = try await rig.until("done") { $0.phase == .done }
    let expected = try await load.stop()
    #expect(difference(expected, try image.bytes(at: 0, count: PullRig.byteCount)) == nil)
    #expect(end.missingBytes == 0 && end.faults > 0 && end.failedFaults == 0)
    #expect(!FileManager.default.fileExists(atPath: rig.path))
    // The source is let go.
    rig.source.cut()
    #expect(try await rig.client { try $0.bytes(at: 0, count: 4096) } == Array(expected[..<4096]))
  }

  @Test(.timeLimit(.minutes(1))) func onlyWhatIsMissingIsFetched() async throws {
    let rig = try PullRig()
    try await rig.pullOnDemand()
    let before = try #require(rig.movable.pullStatus)
    #expect(before.phase == .paused && !before.isWritten)
    let base: UInt64 = 8 << 20
    try await rig.client { client in
      // Whole blocks need nothing.
      try client.put([UInt8](repeating: 0xAA, count: 16384), at: base + 16384)
      #expect(rig.movable.pullStatus?.fetchedBytes == before.fetchedBytes)
      var expected = Array(rig.content[Int(base)..<(Int(base) + 65536)])
      expected.replaceSubrange(16384..<32768, with: repeatElement(0xAA, count: 16384))
      #expect(try client.bytes(at: base, count: 65536) == expected)
      #expect(rig.movable.pullStatus?.fetchedBytes == before.fetchedBytes + 49152)
      // Once it is here it stays.
      #expect(try client.bytes(at: base + 100, count: 50000) == Array(expected[100..<50100]))
      #expect(rig.movable.pullStatus?.fetchedBytes == before.fetchedBytes + 49152)
    }
    // A part of a block needs the rest of it.
    let place = base + (1 << 20) + 100
    try await rig.client { client in
      try client.put([1, 2, 3], at: place)
      let block = try client.bytes(at: place - 100, count: 4096)
      let start = Int(place) - 100
      var expected = Array(rig.content[start..<(start + 4096)])
      expected.replaceSubrange(100..<103, with: [1, 2, 3])
      #expect(block == expected)
      // Zeros and discards make blocks be here.
      try client.zero(at: base + (2 << 20), count: 8192, [])
      try client.trim(at: base + (3 << 20) + 1000, count: 10_000)
    }
    let after = try #require(rig.movable.pullStatus)
    #expect(after.fetchedBytes == before.fetchedBytes + 49152 + 4096 && after.isWritten)
    #expect(
      try await rig.client { try $0.bytes(at: base + (2 << 20), count: 8192) }.allSatisfy {
        $0 == 0
      })
    // Of the discarded range the one whole block.
    let discarded = base + (3 << 20) + 4096
    #expect(
      try await rig.client { try $0.bytes(at: discarded, count: 4096) }.allSatisfy { $0 == 0 })
    #expect(after.missingBytes == before.missingBytes - 65536 - 4096 - 8192 - 4096)
  }

  /// The host loses its power at any instant: what was flushed is there with the next server, and what isn't is
  /// the source's, or an older or newer content of the guest's.
  @Test(.timeLimit(.minutes(1)), arguments: UInt64(1)...10)
  func powerFailure(seed: UInt64) async throws {
    var random = SplitMix64(seed: seed)
    let image = VolatileStore(byteCount: PullRig.byteCount, isPrompt: true)
    var rig = try PullRig(image)
    let content = rig.content
    try await rig.pull(bytesPerSecond: seed % 3 == 0 ? nil : 16_000_000)
    // Per 4 KiB block that is written: contents that it may have, the oldest first, which is stable.
    var allowed: [Int: [UInt8]] = [:]
    for life in 0..<3 {
      for step in 0..<40 {
        let first = Int(random.next() % 64) * 40
        let blocks = first..<(first + Int(random.next() % 4) + 1)
        let value = UInt8(1 + life * 40 + step)
        let kind = random.next() % 8
        try await rig.client { client in
          let bytes = [UInt8](repeating: value, count: blocks.count * 4096)
          switch kind {
          case 0: try client.flush()
          case 1: try client.put(bytes, at: UInt64(first) * 4096, durable: true)
          case 2: _ = try client.bytes(at: UInt64(first) * 4096, count: bytes.count)
          default: try client.put(bytes, at: UInt64(first) * 4096)
          }
        }
        switch kind {
        case 0: for (block, values) in allowed { allowed[block] = [values.last!] }
        case 1: for block in blocks { allowed[block] = [value] }
        case 2: break
        default:
          for block in blocks { allowed[block, default: [content[block * 4096]]].append(value) }
        }
      }
      try await rig.die()
      image.restart(&random)
      rig = try PullRig(image, folder: rig.folder, source: rig.source, boot: "boot \(life)")
      // What was written, and some of the rest: not all, so that something is missing in the next life.
      for group in 0..<64 {
        let first = group * 40
        guard
          random.next() % 4 == 0 || (first..<(first + 5)).contains(where: { allowed[$0] != nil })
        else { continue }
        let now = try await rig.client { try $0.bytes(at: UInt64(first) * 4096, count: 5 * 4096) }
        for block in first..<(first + 5) {
          let start = (block - first) * 4096
          let found = now[start]
          let may = allowed[block] ?? [content[block * 4096]]
          guard Array(now[start..<(start + 4096)]) == [UInt8](repeating: found, count: 4096),
            may.contains(found)
          else {
            Issue.record(
              "block \(block) is \(found), not one of \(may), life \(life), seed \(seed)")
            return
          }
          if allowed[block] != nil { allowed[block] = [found] }
        }
      }
    }
    try await rig.untilHere()
  }

  /// The server alone dies: everything that was answered is there.
  @Test(.timeLimit(.minutes(1)), arguments: UInt64(1)...5)
  func aKilledServer(seed: UInt64) async throws {
    var random = SplitMix64(seed: seed)
    let image = VolatileStore(byteCount: PullRig.byteCount, isPrompt: true)
    var rig = try PullRig(image)
    try await rig.pull(bytesPerSecond: 10_000_000)
    var known = rig.content
    for life in 0..<4 {
      let load = try await WorkerThread.run("load") { [rig, known] in
        try DiskLoad(rig.server, known: known, seed: seed &* 10 &+ UInt64(life))
      }
      try await Task.sleep(for: .milliseconds(50 + random.next() % 100))
      known = try await load.stop()
      try await rig.die()
      rig = try PullRig(image, folder: rig.folder, source: rig.source)
    }
    let now = try await rig.client { try $0.bytes(at: 0, count: PullRig.byteCount) }
    #expect(difference(known, now) == nil)
    try await rig.untilHere()
  }

  /// The server ends, and the next one goes on without fetching anything twice.
  @Test(.timeLimit(.minutes(1))) func anEndedServerIsGoneOnWith() async throws {
    let image = VolatileStore(byteCount: PullRig.byteCount, isPrompt: true)
    let first = try PullRig(image)
    try await first.pullOnDemand(bytesPerSecond: 4_000_000)
    _ = try await first.client { try $0.bytes(at: 0, count: 6 << 20) }
    let missing = try #require(first.movable.pullStatus?.missingBytes)
    try await WorkerThread.run("suspend") { first.movable.suspendMove() }
    // Also after another boot: all of it was flushed.
    let next = try PullRig(image, folder: first.folder, source: first.source, boot: "another")
    let end = try await next.until("done") { $0.phase == .done }
    #expect(end.fetchedBytes + end.zeroBytes == missing)
    #expect(difference(next.content, try image.bytes(at: 0, count: PullRig.byteCount)) == nil)
  }

  @Test(.timeLimit(.minutes(1))) func holesNeedNotBeRead() async throws {
    let folder = try ScratchFolder()
    let path = try folder.image("source.raw", byteCount: 64 << 20)
    let file = try FileStore(path: path)
    try file.put([UInt8](repeating: 5, count: 1 << 20), at: 20 << 20)
    try file.put([UInt8](repeating: 6, count: 4096), at: (64 << 20) - 4096)
    let running = try RunningServer(file)
    let copy = try folder.image("copy.raw", byteCount: 64 << 20)
    let pulled = try PulledStore(
      FileStore(path: copy), name: "disk", identity: "one", path: copy + ".pull",
      resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
    let movable = try MovableStore(
      pulled, name: "disk", identity: "one", mapPath: nil,
      resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
    let source = MoveDestination(uri: running.uri, exportName: "disk") {
      try UnixSocket.connect(path: running.socket)
    }
    try await WorkerThread.run("pull") { try movable.pull(from: source, DiskPullWish()) }
    while movable.pullStatus?.phase != .done { try await Task.sleep(for: .milliseconds(5)) }
    let end = try #require(movable.pullStatus)
    // Where data and holes meet a chunk is read as one.
    #expect(end.fetchedBytes < 4 << 20 && end.zeroBytes > 60 << 20, "\(end)")
    try await Command.run("cmp", [path, copy])
    var status = stat()
    stat(copy, &status)
    #expect(status.st_blocks * 512 < 4 << 20)
    // It holds something now.
    #expect(throws: MoveError.self) { try movable.pull(from: source, DiskPullWish()) }
  }
}
