import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Synchronization
import Testing

@testable import BlockStore

/// Disks that move while clients write to them.
@Suite struct MoveTests {
  /// Those whose own ways differ most.
  static let ways: [MoveMethod] = [.precopy, .mirror, .iofollow, .waio]

  /// Copies end the same on both sides, whatever was written meanwhile.
  @Test(.timeLimit(.minutes(3)), arguments: MoveMethod.allCases)
  func copiesAreWhole(method: MoveMethod) async throws {
    let isPrompt = method != .mirror && method != .snapmig
    let rig = try MoveRig(isPrompt: isPrompt)
    let load = try await rig.load(seed: isPrompt ? 1 : 2, for: method)
    try await rig.move(rig.wish(method, .wait, bytesPerSecond: 24 << 20))
    try await rig.until("the same") { $0.phase == .mirroring && $0.roundCount > 0 }
    let expected = try await load.stop()
    try rig.movable.finishMove(.copy)
    let end = try await rig.until("copied") { $0.phase == .copied }
    try await rig.untilAllIsBack()
    #expect(try difference(rig.bytes(of: rig.store), expected) == nil)
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
    #expect(end.neededBytes == 0 && end.pauseUs != nil && end.problem == nil)
    #expect(!FileManager.default.fileExists(atPath: rig.mapPath))
    // The guest goes on here, alone.
    let client = try rig.source.connect()
    try await WorkerThread.run("test") {
      try client.put([9, 9, 9], at: 0)
      client.close()
    }
    #expect(try rig.store.bytes(at: 0, count: 3) == [9, 9, 9])
    #expect(try rig.target.store.bytes(at: 0, count: 3) == Array(expected[..<3]))
  }

  /// The guest's requests go over in the middle of a load, and none is lost.
  @Test(.timeLimit(.minutes(3)), arguments: ways)
  func theGuestGoesOnOverThere(method: MoveMethod) async throws {
    let rig = try MoveRig()
    let load = try await rig.load(seed: 3, for: method)
    try await rig.move(rig.wish(method, .switching, bytesPerSecond: 24 << 20))
    try await rig.until("switched") { $0.phase == .switched }
    try await rig.untilWritten(20)
    // A connection that breaks now costs a wait; what was answered over there and is lost with the power comes again.
    var random = SplitMix64(seed: 3)
    let begun = try #require(rig.movable.moveStatus).connectionCount
    for round in UInt64(1)...2 {
      rig.target.cut(power: &random)
      try await rig.until("there again") { $0.connectionCount >= begun + round }
      try await rig.untilWritten(20)
    }
    let expected = try await load.stop()
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
    let there = try await WorkerThread.run("read") { try rig.bytes(of: rig.movable) }
    #expect(difference(there, expected) == nil)
    #expect(FileManager.default.fileExists(atPath: rig.mapPath))
    #expect(throws: MoveError.self) { try rig.movable.cancelMove() }
    await end(rig)
  }

  /// Connections break, and the destination forgets what it hadn't flushed.
  @Test(.timeLimit(.minutes(3)), arguments: MoveMethod.allCases)
  func brokenConnections(method: MoveMethod) async throws {
    let seed: UInt64 = method == .mirror ? 1 : 2
    let rig = try MoveRig(isPrompt: seed % 2 == 0)
    let load = try await rig.load(seed: seed, for: method)
    var random = SplitMix64(seed: seed)
    try await rig.move(rig.wish(method, .wait, bytesPerSecond: 16 << 20))
    try await rig.until("under way") { $0.arrivedBytes > 0 }
    var connections: UInt64 = 0
    for _ in 0..<4 {
      // Anywhere in what happens then.
      try await Task.sleep(for: .milliseconds(60 + random.next() % 150))
      let count = rig.movable.moveStatus?.connectionCount ?? 0
      // One that is counted, and not there yet, isn't cut, and stays.
      if rig.target.cut(power: &random) > 0 { connections = count }
    }
    try await rig.until("there again") { [connections] in $0.connectionCount > connections }
    let expected = try await load.stop()
    let status = try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    #expect(status.connectionCount > 1)
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    // What survives a failure of the power now is the disk.
    rig.target.store.losePower(&random)
    try await rig.untilAllIsBack()
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
    #expect(try difference(rig.bytes(of: rig.store), expected) == nil)
  }

  @Test(.timeLimit(.minutes(3)), arguments: ways)
  func aFullDestinationStopsTheMoveAndNotTheGuest(method: MoveMethod) async throws {
    let rig = try MoveRig()
    let load = try await rig.load(seed: 5, for: method)
    try await rig.move(rig.wish(method, .wait, bytesPerSecond: 24 << 20))
    try await rig.until("under way") { $0.arrivedBytes > 1 << 20 }
    rig.target.store.refuse(true)
    let stopped = try await rig.until("stopped") { $0.problem != nil }
    #expect(stopped.phase == .paused && stopped.problem?.contains("full") == true)
    rig.target.store.refuse(false)
    try await rig.until("the same") { status in
      // What had been refused by then may be heard of later, and stops it once more.
      if status.phase == .paused { try? rig.movable.resumeMove() }
      return status.phase == .mirroring && status.neededBytes == 0
    }
    let expected = try await load.stop()
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
  }

  @Test(.timeLimit(.minutes(3)), arguments: ways)
  func pausedAndCancelled(method: MoveMethod) async throws {
    let rig = try MoveRig()
    let load = try await rig.load(seed: 6)
    try await rig.move(rig.wish(method, .wait, bytesPerSecond: 4 << 20))
    try await rig.until("under way") { $0.arrivedBytes > 1 << 20 }
    try rig.movable.pauseMove()
    try await rig.untilQuiet(forMs: 150)
    #expect(rig.movable.moveStatus?.phase == .paused)
    await #expect(throws: MoveError.self) { try await rig.move(rig.wish(method)) }
    try rig.movable.resumeMove()
    try await rig.until("further") { $0.arrivedBytes > 3 << 20 }
    try await WorkerThread.run("cancel") { try rig.movable.cancelMove() }
    #expect(rig.movable.moveStatus?.phase == .cancelled)
    #expect(!FileManager.default.fileExists(atPath: rig.mapPath))
    #expect(throws: MoveError.self) { try rig.movable.pauseMove() }
    let expected = try await load.stop()
    try await rig.untilAllIsBack()
    #expect(try difference(rig.bytes(of: rig.store), expected) == nil)
    // And once more from the beginning.
    try await rig.move(rig.wish(method))
    try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
  }

  /// The guest's writes and what it reads often are the surrogate's, and move last.
  @Test(.timeLimit(.minutes(3))) func waioLeavesTheDiskToTheCopier() async throws {
    let rig = try MoveRig(isPrompt: false)
    // So slowly that the copier doesn't come to the tail meanwhile, on a busy machine, too.
    try await rig.move(rig.wish(.waio, .wait, bytesPerSecond: 1 << 20))
    try await rig.until("in use") { $0.surrogate?.phase == .inUse }
    let before = try rig.bytes(of: rig.store)
    let client = try rig.source.connect()
    try await WorkerThread.run("guest") {
      for round in 0..<10 {
        try client.put([UInt8](repeating: UInt8(round), count: 64 << 10), at: 8 << 20)
        try client.put([7, 7, 7], at: 9_000_001)
        try client.zero(at: 10 << 20, count: 40_000, [])
        #expect(try client.bytes(at: 8 << 20, count: 4096).allSatisfy { $0 == UInt8(round) })
        #expect(try client.bytes(at: 9_000_000, count: 5)[1...3] == [7, 7, 7])
        // Often.
        _ = try client.bytes(at: 1 << 20, count: 8192)
        MonotonicClock.sleep(us: 20_000)
      }
    }
    // Nothing of that is on the disk.
    #expect(try difference(rig.bytes(of: rig.store), before) == nil)
    // Another thread copies what is popular.
    let status = try await rig.until("copied") { $0.surrogate?.copiedBytes ?? 0 >= 8192 }
    #expect(status.roundCount == 0, "\(status)")
    let surrogate = try #require(status.surrogate)
    #expect(surrogate.onlyHereBytes == UInt64(16 + 1 + 10) * 4096, "\(surrogate)")
    #expect(surrogate.copiedBytes == 8192 && surrogate.writes > 0 && surrogate.reads > 0)
    // The image alone is not the disk, and whoever looks is told.
    #expect(rig.movable.moveNote == MovableStore.movingNote)
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    try await rig.untilAllIsBack()
    client.close()
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
    #expect(try rig.store.bytes(at: 8 << 20, count: 4096).allSatisfy { $0 == 9 })
    #expect(!FileManager.default.fileExists(atPath: rig.mapPath + OutsourcedStore.fileSuffix))
    #expect(try rig.surrogate.store.bytes(at: 0, count: 4096).allSatisfy { $0 == 0 })
  }

  /// A surrogate that fails in the middle of a move costs no write, and the move goes on.
  @Test(.timeLimit(.minutes(3)), arguments: [true, false])
  func aSurrogateThatFails(isFull: Bool) async throws {
    let surrogate = isFull ? FailingSurrogate(byteCount: 13 << 20) : FailingSurrogate()
    let rig = try MoveRig(
      TornStore(VolatileStore(byteCount: MoveRig.byteCount, isPrompt: true)),
      target: try FailingTarget(byteCount: MoveRig.byteCount), surrogate: surrogate)
    try await rig.move(rig.wish(.waio, .wait, bytesPerSecond: 6 << 20))
    let load = try await rig.load(seed: 8)
    try await rig.until("in use") { $0.surrogate?.writes ?? 0 > 20 }
    if isFull {
      try await rig.until("full") { $0.surrogate?.refusedWrites ?? 0 > 0 }
    } else {
      surrogate.store.refuse(true)
      try await rig.until("given back") { $0.surrogate == nil }
      surrogate.store.refuse(false)
    }
    try await Task.sleep(for: .milliseconds(300))
    let expected = try await load.stop()
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    try await rig.untilAllIsBack()
    #expect(try difference(rig.bytes(of: rig.store), expected) == nil)
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
  }

  @Test(.timeLimit(.minutes(3))) func surrogatesThatCantBe() async throws {
    let rig = try MoveRig()
    #expect(throws: MoveError.self) {
      try rig.movable.move(to: rig.target.destination, MoveRig.wish(.waio, nil))
    }
    for small in [4096, 12 << 20] {
      let surrogate = FailingSurrogate(byteCount: small)
      #expect(throws: MoveError.self) {
        try rig.movable.move(to: rig.target.destination, MoveRig.wish(.waio, surrogate))
      }
    }
    let used = FailingSurrogate()
    try used.store.put([1], at: 17)
    for method in [MoveMethod.waio, .mirror] {
      #expect(throws: MoveError.self) {
        try rig.movable.move(to: rig.target.destination, MoveRig.wish(method, used))
      }
    }
    #expect(rig.movable.moveStatus == nil)
  }

  /// What the guest reads and writes anyway isn't read for the move.
  @Test(.timeLimit(.minutes(3))) func iofollowReadsNothingTwice() async throws {
    let rig = try MoveRig(isPrompt: false)
    // So slowly that the guest comes to most of it first, on a busy machine, too.
    try await rig.move(rig.wish(.iofollow, .copy, bytesPerSecond: 1 << 20))
    let client = try rig.source.connect()
    try await rig.until("connected") { $0.phase == .copying }
    try await WorkerThread.run("guest") {
      // Half of the disk, some of it in pieces, some by writing.
      for offset in stride(from: 6 << 20, to: 10 << 20, by: 16 << 10) {
        _ = try client.bytes(at: UInt64(offset), count: 16 << 10)
        MonotonicClock.sleep(us: 500)
      }
      for offset in stride(from: 10 << 20, to: 12 << 20, by: 64 << 10) {
        try client.put([UInt8](repeating: 5, count: 64 << 10), at: UInt64(offset))
        MonotonicClock.sleep(us: 500)
      }
    }
    client.close()
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(end.forwardedBytes >= 2 << 20, "\(end)")
    #expect(end.readBytes + end.forwardedBytes <= 13 << 20, "\(end)")
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
  }

  @Test(.timeLimit(.minutes(3))) func destinationsThatCantBe() async throws {
    let rig = try MoveRig()
    let small = try FailingTarget(byteCount: MoveRig.byteCount - 4096)
    #expect(throws: MoveError.self) {
      try rig.movable.move(to: small.destination, rig.wish(.mirror))
    }
    let nobody = MoveDestination(uri: "nbd+unix:///x?socket=/none", exportName: "x") {
      try UnixSocket.connect(path: "/tmp/godwit-none/nothing.sock")
    }
    #expect(throws: (any Error).self) { try rig.movable.move(to: nobody, rig.wish(.mirror)) }
    #expect(rig.movable.moveStatus == nil)
    #expect(throws: MoveError.self) { try rig.movable.cancelMove() }
  }

  private func end(_ rig: MoveRig) async {
    _ = try? await WorkerThread.run("end") { rig.movable.suspendMove() }
  }
}
