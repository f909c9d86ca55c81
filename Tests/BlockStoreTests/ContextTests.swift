import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Testing

@testable import BlockStore

/// What a mover knows of a disk's blocks, as clients see it.
@Suite struct ContextTests {
  private static let size = String(MoveRig.byteCount)

  /// The first three columns of `nbdinfo --map`.
  private func map(_ context: String, _ server: RunningServer) async throws -> [[String]] {
    let text = try await Command.run("nbdinfo", ["--map=\(context)", server.uri])
    return text.split(separator: "\n").map { line in
      line.split(separator: " ").prefix(3).map(String.init)
    }
  }

  /// One row behind the other, from lengths and flags.
  private func rows(_ extents: [(length: Int, flags: Int)]) -> [[String]] {
    var place = 0
    return extents.map { extent in
      defer { place += extent.length }
      return ["\(place)", "\(extent.length)", "\(extent.flags)"]
    }
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("nbdinfo"), "no nbdinfo"))
  func aMovesMap() async throws {
    let rig = try MoveRig()
    let all = MoveRig.byteCount
    let names = try await Command.run("nbdinfo", ["--json", rig.source.uri])
    for name in ["base:allocation", "godwit:needed", "godwit:changed", "godwit:outsourced"] {
      #expect(names.contains(name), "\(name) in \(names)")
    }
    #expect(!names.contains("godwit:missing"))
    // Nothing moves: there is nothing to tell.
    for name in ["godwit:needed", "godwit:changed", "godwit:outsourced"] {
      #expect(try await map(name, rig.source) == rows([(all, 4)]))
    }
    try await rig.move(rig.wish(.mirror, .wait))
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    // What has arrived is flushed a little later.
    while try flags(rig, NBDExtent.needed) != [0] { try await Task.sleep(for: .milliseconds(20)) }
    #expect(try await map("godwit:needed", rig.source) == rows([(all, 0)]))
    try rig.movable.pauseMove()
    let client = try rig.source.connect()
    try await WorkerThread.run("guest") {
      try client.put([UInt8](repeating: 7, count: 8192), at: 1 << 20)
      // Less than a block is one.
      try client.put([9], at: 5 << 20)
    }
    client.close()
    let needed = rows([
      (1 << 20, 0), (8192, 1), ((4 << 20) - 8192, 0), (4096, 1), (all - (5 << 20) - 4096, 0),
    ])
    #expect(try await map("godwit:needed", rig.source) == needed)
    // Another context of the same server still tells what it always did.
    #expect(try await map("base:allocation", rig.source) == rows([(all, 0)]))
    try rig.movable.resumeMove()
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    #expect(try await map("godwit:needed", rig.source) == rows([(all, 4)]))
  }

  private func flags(_ rig: MoveRig, _ context: String) throws -> [UInt64] {
    try rig.movable.status(
      of: context, at: 0, count: UInt64(MoveRig.byteCount), extentsMax: 4096
    ).map(\.flags)
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("nbdinfo"), "no nbdinfo"))
  func whatHasChangedSinceASnapshot() async throws {
    let rig = try MoveRig()
    _ = try await WorkerThread.run("snapshot") { try rig.movable.snapshot() }
    #expect(try await map("godwit:changed", rig.source) == rows([(MoveRig.byteCount, 0)]))
    let client = try rig.source.connect()
    try await WorkerThread.run("guest") { try client.zero(at: 64 << 10, count: 64 << 10, []) }
    client.close()
    let changed = rows([(64 << 10, 0), (64 << 10, 1), (MoveRig.byteCount - (128 << 10), 0)])
    #expect(try await map("godwit:changed", rig.source) == changed)
  }

  @Test(.timeLimit(.minutes(1))) func whatOnlyTheSurrogateHas() async throws {
    let rig = try MoveRig(isPrompt: false)
    try await rig.move(rig.wish(.waio, .wait, bytesPerSecond: 2 << 20))
    try await rig.until("in use") { $0.surrogate?.phase == .inUse }
    let client = try rig.source.connect()
    try await WorkerThread.run("guest") {
      try client.put([UInt8](repeating: 7, count: 4096), at: 8 << 20)
    }
    client.close()
    let told = try rig.movable.status(
      of: NBDExtent.outsourced, at: (8 << 20) - 4096, count: 12288, extentsMax: 8)
    #expect(told.map(\.flags) == [0, 1, 0] && told.map(\.length) == [4096, 4096, 4096])
    try await WorkerThread.run("cancel") { try rig.movable.cancelMove() }
    try await rig.untilAllIsBack()
    #expect(try flags(rig, NBDExtent.outsourced) == [NBDExtent.untold])
  }

  @Test(.timeLimit(.minutes(1)), .enabled(if: Program.exists("nbdinfo"), "no nbdinfo"))
  func whatAPulledDiskLacks() async throws {
    let rig = try PullRig()
    #expect(try await map("godwit:missing", rig.server) == rows([(MoveRig.byteCount, 4)]))
    try await rig.pullOnDemand()
    _ = try await rig.client { try $0.bytes(at: 8 << 20, count: 16384) }
    let rows = try await map("godwit:missing", rig.server)
    let row = try #require(rows.first { $0[0] == "\(8 << 20)" })
    #expect(row[1] == "16384" && ["0", "2"].contains(row[2]), "\(rows)")
    #expect(rows.filter { $0[2] == "1" }.count >= 2, "\(rows)")
  }

  /// Two contexts in one answer, by our own client.
  @Test(.timeLimit(.minutes(1))) func severalAtOnce() async throws {
    let rig = try MoveRig()
    try await WorkerThread.run("test") {
      let store = try RemoteStore(
        over: UnixSocket.connect(path: rig.source.socket), exportName: "disk", isReadOnly: true,
        contexts: [NBDExtent.needed, "godwit:nothing"])
      defer { store.close() }
      #expect(store.contexts == [NBDExtent.allocation, NBDExtent.needed])
      let all = UInt64(MoveRig.byteCount)
      #expect(try store.status(at: 0, count: all, extentsMax: 8).map(\.flags) == [0])
      #expect(
        try store.status(of: NBDExtent.needed, at: 4096, count: 8192, extentsMax: 1)
          == [NBDExtent(length: 8192, flags: NBDExtent.untold)])
      #expect(throws: StoreError.self) {
        try store.status(of: "godwit:nothing", at: 0, count: 4096, extentsMax: 8)
      }
    }
  }

  /// Whatever the bitmaps, ranges and limits: what is told is what they say.
  @Test(arguments: 1...6 as ClosedRange<UInt64>) func extentsAreTheBitmaps(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let byteCount = 1 + random.next() % (3 << 20)
    let geometry = try #require(DiskGeometry(byteCount: byteCount))
    let words = (0..<geometry.chunkCount).map { _ in
      let kinds: [UInt64] = [0, .max, random.next()]
      return (
        marked: kinds[Int(random.next() % 3)], unflushed: random.next() % 4 == 0 ? random.next() : 0
      )
    }
    for _ in 0..<200 {
      let offset = random.next() % byteCount
      let count = 1 + random.next() % (byteCount - offset)
      let most = 1 + Int(random.next() % 40)
      let extents = BlockExtents.list(
        geometry, at: offset, count: count, extentsMax: most
      ) { words[$0] }
      #expect(!extents.isEmpty && extents.count <= most)
      var place = offset
      for extent in extents {
        #expect(extent.length > 0)
        for byte in [place, place + extent.length - 1] {
          let (chunk, bit) = (Int(byte >> 18), byte >> 12 & 63)
          let flags = words[chunk].marked >> bit & 1 | (words[chunk].unflushed >> bit & 1) << 1
          #expect(extent.flags == flags, "seed \(seed), \(byte)")
        }
        place += extent.length
      }
      #expect(place <= offset + count)
      #expect(extents.count == most || place == offset + count, "seed \(seed)")
    }
  }
}
