import Base
import DiskStrategy
import Foundation
import HostIO
import Synchronization
import Testing

@testable import BlockStore

/// Disks of which backups have most.
@Suite struct SnapshotTests {
  /// The disk is read only where it was written since, whatever the backups have.
  @Test(.timeLimit(.minutes(1)), arguments: ["good", "stale", "corrupt", "gone", "smaller"])
  func whatHasNotChangedComesFromBackups(backups: String) async throws {
    let rig = try MoveRig(isPrompt: false)
    let other = try FailingTarget(byteCount: backups == "smaller" ? 1 << 20 : MoveRig.byteCount)
    let changed = 0..<(2 << 20)
    try await WorkerThread.run("snapshot") {
      var snapshot = try rig.snapshot()
      // After the snapshot.
      let client = try rig.source.connect()
      try client.put([UInt8](repeating: 0xAB, count: changed.count), at: 0)
      try client.zero(at: 5 << 20, count: 4096, [])
      client.close()
      let good = try rig.backup.store.bytes(at: 0, count: MoveRig.byteCount)
      if backups != "smaller" { try other.store.put(good, at: 0) }
      if backups == "stale" {
        try other.store.put([UInt8](repeating: 0x11, count: 6 << 20), at: 6 << 20)
      }
      if backups == "corrupt" {
        for place in stride(from: 0, to: MoveRig.byteCount, by: 1 << 16) {
          for store in [rig.backup.store, other.store] {
            let old = try store.bytes(at: UInt64(place), count: 1)
            try store.put([old[0] ^ 1], at: UInt64(place))
          }
        }
      }
      snapshot.backups.append(other.destination)
      if backups == "gone" {
        let nobody = MoveDestination(uri: "none", exportName: "x") {
          try UnixSocket.connect(path: "/tmp/godwit-none/nothing.sock")
        }
        snapshot.backups = [nobody, nobody]
      }
      var wish = rig.wish(.snapmig)
      wish.snapshot = snapshot
      try rig.movable.move(to: rig.target.destination, wish)
    }
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
    let (all, rest) = (UInt64(MoveRig.byteCount), UInt64(changed.count + (256 << 10)))
    switch backups {
    case "corrupt", "gone":
      #expect(end.readBytes == all && end.backupBytes == 0, "\(end)")
      #expect((end.backupRefusals ?? 0 > 0) == (backups == "corrupt"), "\(end)")
    default:
      #expect(end.readBytes <= rest && end.backupBytes ?? 0 >= all - rest, "\(end)")
      #expect((end.backupRefusals ?? 0 > 0) == (backups == "stale"), "\(end)")
    }
  }

  /// Under a load that began before the snapshot was taken.
  @Test(.timeLimit(.minutes(1)), arguments: 1...2 as ClosedRange<UInt64>)
  func whileItIsWrittenTo(seed: UInt64) async throws {
    let rig = try MoveRig(isPrompt: seed == 1)
    // Something is left as it was, however long a busy machine takes to begin.
    let load = try await rig.load(seed: seed, sparedBytes: 3 << 20)
    let snapshot = try await WorkerThread.run("snapshot") { try rig.snapshot() }
    try await Task.sleep(for: .milliseconds(100))
    var wish = rig.wish(.snapmig, .wait, bytesPerSecond: 24 << 20)
    wish.snapshot = snapshot
    try await rig.move(wish)
    try await rig.until("the same") { $0.phase == .mirroring && $0.roundCount > 0 }
    let expected = try await load.stop()
    try rig.movable.finishMove(.copy)
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
    #expect(end.backupBytes ?? 0 > 0, "\(end)")
  }

  /// The next server knows what was written since; and of which snapshot.
  @Test(.timeLimit(.minutes(1))) func notesOutliveTheServer() async throws {
    let folder = try ScratchFolder()
    let store = VolatileStore(byteCount: 4 << 20, isPrompt: false)
    @Sendable func open(_ identity: String = "one") throws -> MovableStore {
      try MovableStore(
        store, name: "disk", identity: identity, mapPath: folder.path + "/map",
        resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
    }
    let target = try FailingTarget(byteCount: 4 << 20)
    try await WorkerThread.run("servers") {
      var first: MovableStore? = try open()
      let early = try #require(try first?.snapshot())
      let manifest = try #require(try first?.snapshot())
      #expect(early.generation != manifest.generation)
      try first?.put([1], at: 1 << 20)
      first?.suspendMove()
      first = nil
      let next = try open()
      try next.put([1], at: 2 << 20)
      let notes = try #require(next.notes.withLock { $0 })
      #expect(notes.generation == manifest.generation)
      let unchanged = (0..<1024).filter { notes.isUnchanged($0..<($0 + 1)) }
      #expect(unchanged.count == 1022 && !unchanged.contains(256) && !unchanged.contains(512))
      var wish = MoveWish()
      for (method, old) in [(MoveMethod.snapmig, early), (.precopy, manifest)] {
        wish.method = method
        wish.snapshot = SnapshotWish(manifest: old, backups: [target.destination])
        #expect(throws: MoveError.self) { try next.move(to: target.destination, wish) }
      }
      (wish.method, wish.snapshot) = (.snapmig, nil)
      #expect(throws: MoveError.self) { try next.move(to: target.destination, wish) }
      next.suspendMove()
      #expect(throws: MoveError.self) { _ = try open("another") }
    }
  }

  /// Past the server nobody notes what is written, so a snapshot of before is none any more, for the next server neither.
  @Test(.timeLimit(.minutes(1))) func aBypassEndsTheNotes() async throws {
    let rig = try MoveRig(isPrompt: false)
    try await WorkerThread.run("bypass") {
      var wish = rig.wish(.snapmig)
      wish.snapshot = try rig.snapshot()
      let notes = try #require(rig.movable.notes.withLock { $0 })
      #expect(notes.isUnchanged(0..<1))
      try rig.movable.noteBypass()
      try rig.store.put([UInt8](repeating: 0xAB, count: 4096), at: 1 << 20)
      // Neither for who has them still.
      #expect(!notes.isUnchanged(0..<1))
      #expect(!FileManager.default.fileExists(atPath: rig.mapPath + ChangeNotes.fileSuffix))
      #expect(throws: MoveError.self) { try rig.movable.move(to: rig.target.destination, wish) }
      // Without notes there is nothing to end.
      try rig.movable.noteBypass()
    }
    // One that is taken afterwards counts.
    try await rig.move(rig.wish(.snapmig))
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
    #expect(end.backupBytes ?? 0 > 0, "\(end)")
  }

  /// A move counts on hearing of every write.
  @Test(.timeLimit(.minutes(1))) func aDiskThatMovesIsNotPassedBy() async throws {
    let rig = try MoveRig(isPrompt: false)
    try await rig.move(rig.wish(.snapmig, .wait))
    try await WorkerThread.run("bypass") {
      #expect(throws: MoveError.self) { try rig.movable.noteBypass() }
      #expect(rig.movable.notes.withLock { $0 } != nil)
      try rig.movable.cancelMove()
    }
  }
}
