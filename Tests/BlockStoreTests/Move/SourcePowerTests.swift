import Base
import DiskStrategy
import Foundation
import HostIO
import Testing

@testable import BlockStore

/// The host of a disk that moves loses its power, or its device fails.
@Suite struct SourcePowerTests {
  private static let partByteCount = 1 << 16

  /// A disk all of whose parts were written and not flushed, each by itself.
  private func make() throws -> (MoveRig, VolatileStore) {
    let source = VolatileStore(byteCount: MoveRig.byteCount, isPrompt: true)
    let rig = try MoveRig(source, target: FailingTarget(byteCount: MoveRig.byteCount))
    for place in stride(from: 0, to: MoveRig.byteCount, by: Self.partByteCount) {
      let value = UInt8(truncatingIfNeeded: place >> 16) | 1
      try source.put([UInt8](repeating: value, count: Self.partByteCount), at: UInt64(place))
    }
    return (rig, source)
  }

  /// What the map says the destination has is the same on both sides, whatever the source's device has lost.
  @Test(.timeLimit(.minutes(1)), arguments: 1...3 as ClosedRange<UInt64>)
  func whatIsSyncedIsTheSame(seed: UInt64) async throws {
    let (rig, source) = try make()
    try await rig.move(rig.wish(.precopy, .wait))
    let move = try #require(rig.movable.move)
    while !move.state.read({ $0.map.isSynced }) { try await Task.sleep(for: .milliseconds(5)) }
    try await WorkerThread.run("write") {
      try rig.movable.put([UInt8](repeating: 0, count: 10 * 4096), at: 1 << 20)
    }
    // Whatever the mapped file has may be on its medium.
    let copy = rig.folder.path + "/after"
    try FileManager.default.copyItem(atPath: rig.mapPath, toPath: copy)
    var random = SplitMix64(seed: seed)
    let here = source.failPower(&random)
    let there = try rig.bytes(of: rig.target.store)
    let file = try #require(try MapFile.open(copy, move.geometry))
    let map = try file.load(boot: "another")
    let synced = (0..<move.geometry.blockCount).filter { !map.needed[$0] }
    #expect(!synced.isEmpty)
    let old = synced.filter { block in
      let bytes = (block * 4096)..<((block + 1) * 4096)
      return here[bytes] != there[bytes]
    }
    #expect(old.isEmpty, "\(old.count) of \(synced.count) blocks, from \(old.first ?? 0) on")
    try await WorkerThread.run("cancel") { try rig.movable.cancelMove() }
  }

  /// What the manifest says is what the disk comes back with where nothing was written since.
  @Test(.timeLimit(.minutes(1))) func aSnapshotIsOfWhatIsKept() async throws {
    let (rig, source) = try make()
    let manifest = try await WorkerThread.run("snapshot") { try rig.movable.snapshot() }
    var random = SplitMix64(seed: 1)
    source.restart(&random)
    let found = try DiskManifest.reading(source)
    let other = (0..<manifest.partCount).filter { manifest.hash(of: $0) != found.hash(of: $0) }
    #expect(other.isEmpty, "\(other.count) of \(manifest.partCount) parts")
  }

  /// Nobody knows what such a disk will hold, so nothing of it counts as copied.
  @Test(.timeLimit(.minutes(1))) func aDiskThatCantBeFlushedStopsItsMove() async throws {
    let (rig, source) = try make()
    source.failFlushes()
    try await rig.move(rig.wish(.precopy))
    let status = try await rig.until("stopped") { $0.phase == .paused || $0.phase.isOver }
    #expect(status.phase == .paused && status.problem?.contains("can't flush") == true, "\(status)")
    try await WorkerThread.run("cancel") { try rig.movable.cancelMove() }
  }
}
