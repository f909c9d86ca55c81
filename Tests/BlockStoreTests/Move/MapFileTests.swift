import Base
import DiskStrategy
import Foundation
import Glibc
import HostIO
import Testing

@testable import BlockStore

@Suite struct MapFileTests {
  let folder = try! ScratchFolder()
  private var path: String { folder.path + "/disk.map" }
  private let geometry = DiskGeometry(byteCount: 64 << 20)!

  /// A file in which only some blocks are needed, as a server leaves it that dies.
  private func make(needed: Range<Int>, active: [UInt32] = []) throws {
    let file = try MapFile.make(path, geometry, key: "image\nnbd://host/x")
    #expect(try file.load().needed.population == geometry.blockCount)
    var map = BlockMap(geometry, filled: false)
    map.note(needed)
    for chunk in 0..<geometry.chunkCount { file[chunk] = map.openWord(chunk) }
    file.keep(ActivityLog(active))
    try file.sync()
  }

  private func open() throws -> MapFile { try #require(try MapFile.open(path, geometry)) }

  @Test func aDeadProcessLosesNothing() throws {
    try make(needed: 100..<130, active: [3])
    let file = try open()
    #expect(file.key == "image\nnbd://host/x" && file.state == .copying)
    let map = try file.load()
    #expect(map.needed.population == 30 && map.needed[100] && map.needed[129])
  }

  @Test func afterAnotherBootWhatWasActiveIsNeeded() throws {
    try make(needed: 100..<130, active: [3, 15])
    let map = try open().load(boot: "another")
    // Parts of 4 MiB: 1024 blocks each.
    #expect(map.needed.population == 30 + 2048)
    #expect(map.needed[3 * 1024] && map.needed[4 * 1024 - 1] && map.needed[15 * 1024])
    // And from then on that is what is known.
    #expect(try open().load(boot: "another").needed.population == 30 + 2048)
  }

  @Test func aTornLogLeavesTheOneBefore() throws {
    try make(needed: 0..<1, active: [1])
    var first: MapFile? = try open()
    let newest = try #require(first?.storedLog)
    first?.keep(ActivityLog([1, 2]))
    let place = 4096 + Int((newest.sequence + 1) & 1) * 4096 + 24
    first?.record.set(77, at: place)
    first = nil
    #expect(try open().load(boot: "another").needed.population == 1 + 1024)
  }

  @Test func withoutAWholeLogEverythingIsNeeded() throws {
    try make(needed: 0..<1)
    for place in [4096 + 16, 8192 + 16] { try open().record.set(1, at: place) }
    #expect(try open().load(boot: "another").needed.population == geometry.blockCount)
  }

  @Test func whoEndedCleanlyIsBelieved() throws {
    try make(needed: 5..<6, active: [3])
    try open().close(isClean: true)
    #expect(try open().load(boot: "another").needed.population == 1)
    // Once only: it is in use again.
    #expect(try open().load(boot: "a third").needed.population == 1)
  }

  @Test func othersAreRefused() throws {
    #expect(try MapFile.open(path, geometry) == nil)
    try make(needed: 0..<1)
    let larger = try #require(DiskGeometry(byteCount: (64 << 20) + 4096))
    #expect(throws: SystemError.self) { try MapFile.open(path, larger) }
    let held = try open()
    #expect(throws: SystemError.self) { try MapFile.open(path, geometry) }
    held.record.set(7, at: 16)
    #expect(held.state == .copying)
    try held.markSwitched()
    #expect(held.state == .switched)
    #expect(throws: SystemError.self) {
      try MapFile.make(path, geometry, key: String(repeating: "x", count: 3000))
    }
    try Data(repeating: 0, count: 12288 + 256 * 8).write(to: URL(filePath: path + "0"))
    #expect(throws: SystemError.self) { try MapFile.open(path + "0", geometry) }
  }

  /// Who came before a change is waited for, who comes after it is not.
  @Test(.timeLimit(.minutes(1))) func callsAreWaitedFor() async throws {
    let turnstile = Turnstile()
    let seen = Guarded(0)
    let first = turnstile.enter()
    let turner = WorkerThread("turn") {
      turnstile.turn()
      seen.update { $0 = 1 }
    }
    // One that comes once it turns isn't waited for.
    var second = turnstile.enter()
    while second == first {
      turnstile.leave(second)
      MonotonicClock.sleep(us: 200)
      second = turnstile.enter()
    }
    #expect(seen.read { $0 } == 0)
    turnstile.leave(first)
    try await WorkerThread.run("join") { turner.join() }
    #expect(seen.read { $0 } == 1)
    turnstile.leave(second)
  }
}
