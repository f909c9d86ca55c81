import Base
import DiskStrategy
import Foundation
import HostIO
import Testing

@testable import BlockStore

/// Destinations that have an older copy.
@Suite struct IncrementalTests {
  private static let part = Int(DiskManifest.partByteCount)

  private func wish(_ base: BaseWish, _ ending: MoveEnding = .copy) -> MoveWish {
    var wish = MoveWish()
    (wish.method, wish.ending, wish.base) = (.incremental, ending, base)
    return wish
  }

  /// The target has what the disk has, but for some parts; which these are.
  private func copy(_ rig: MoveRig, changed: [Int]) throws -> DiskManifest {
    var copy = try rig.bytes(of: rig.store)
    for part in changed { copy[part * Self.part + 777] ^= 0xFF }
    try rig.target.store.put(copy, at: 0, durable: true)
    return try DiskManifest.reading(rig.target.store)
  }

  @Test(.timeLimit(.minutes(1)), arguments: [[], [0, 17, 18, 19, 100, 191]], [true, false])
  func onlyWhatDiffersIsSent(changed: [Int], verifiesAll: Bool) async throws {
    let rig = try MoveRig(isPrompt: false)
    var base = try BaseWish(manifest: copy(rig, changed: changed), seed: 3)
    base.verifiesAll = verifiesAll
    try await rig.move(wish(base))
    let end = try await rig.until("copied") { $0.phase == .copied }
    let (all, rest) = (UInt64(MoveRig.byteCount), UInt64(changed.count * Self.part))
    #expect(end.skippedBytes == all - rest && end.arrivedBytes == rest, "\(end)")
    #expect(end.readBytes == all && end.baseRefusals == 0, "\(end)")
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
  }

  /// With the disk's own snapshot only what was written since is read at all.
  @Test(.timeLimit(.minutes(1))) func whatHasNotChangedIsNotRead() async throws {
    let rig = try MoveRig(isPrompt: false)
    let changed = [5, 6, 50]
    try await WorkerThread.run("move") {
      var base = try BaseWish(manifest: copy(rig, changed: changed), seed: 3)
      base.own = try rig.movable.snapshot()
      let client = try rig.source.connect()
      // After the snapshot: one part with something else, and one with the same as before.
      try client.put([1, 2, 3], at: UInt64(80 * Self.part))
      let same = try client.bytes(at: UInt64(90 * Self.part), count: 4096)
      try client.put(same, at: UInt64(90 * Self.part))
      client.close()
      try rig.movable.move(to: rig.target.destination, wish(base))
    }
    let end = try await rig.until("copied") { $0.phase == .copied }
    let rest = UInt64((changed.count + 1) * Self.part)
    #expect(end.readBytes == rest + UInt64(Self.part) && end.arrivedBytes == rest, "\(end)")
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
  }

  /// Another disk's manifest is refused before anything happens; so are those of other lengths, and options that don't
  /// go together.
  @Test(.timeLimit(.minutes(1))) func copiesThatArent() async throws {
    let rig = try MoveRig(isPrompt: false)
    try await WorkerThread.run("move") {
      let manifest = try copy(rig, changed: [1])
      let small = try FailingTarget(byteCount: MoveRig.byteCount - 4096)
      var wishes: [MoveWish] = []
      // The target has something else everywhere.
      let other = try DiskManifest.reading(small.store)
      wishes.append(wish(BaseWish(manifest: other, seed: 1)))
      // None, one for another method, and one with a snapshot that nobody took.
      var none = MoveWish()
      none.method = .incremental
      wishes.append(none)
      var mirror = wish(BaseWish(manifest: manifest, seed: 1))
      mirror.method = .mirror
      wishes.append(mirror)
      var strange = BaseWish(manifest: manifest, seed: 1)
      strange.own = manifest
      wishes.append(wish(strange))
      for wish in wishes {
        #expect(throws: MoveError.self) {
          try rig.movable.move(to: rig.target.destination, wish)
        }
      }
      #expect(rig.movable.moveStatus == nil)
      #expect(throws: (any Error).self) {
        try DiskManifest.reading(VolatileStore(byteCount: 0, isPrompt: false))
      }
    }
  }

  /// A copy that was changed in a few places only is found out by looking at all of it.
  @Test(.timeLimit(.minutes(1))) func everyPartIsLookedAt() async throws {
    let rig = try MoveRig(isPrompt: false)
    let manifest = try copy(rig, changed: [])
    for part in [33, 77] { try rig.target.store.put([0xEE], at: UInt64(part * Self.part + 9)) }
    var base = BaseWish(manifest: manifest, seed: 3)
    (base.sampleCount, base.verifiesAll) = (1, true)
    try await rig.move(wish(base))
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(end.baseRefusals == 2 && end.arrivedBytes == UInt64(2 * Self.part), "\(end)")
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
  }

  /// A copy of another length: what both have as whole parts is compared.
  @Test(.timeLimit(.minutes(1))) func aDiskThatHasGrown() async throws {
    let rig = try MoveRig(isPrompt: false)
    let bytes = try rig.bytes(of: rig.store)
    try rig.target.store.put(bytes, at: 0, durable: true)
    let old = VolatileStore(byteCount: (8 << 20) + 5000, isPrompt: false)
    try old.put(Array(bytes[..<((8 << 20) + 5000)]), at: 0)
    try await rig.move(wish(BaseWish(manifest: DiskManifest.reading(old), seed: 3)))
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(end.skippedBytes == 8 << 20 && end.arrivedBytes == 4 << 20, "\(end)")
  }

  @Test(.timeLimit(.minutes(1)), arguments: 1...3 as ClosedRange<UInt64>)
  func whileItIsWrittenTo(seed: UInt64) async throws {
    let rig = try MoveRig(isPrompt: seed == 1)
    let base = try await WorkerThread.run("copy") {
      var base = try rig.olderCopy()
      if seed == 3 { base.own = try rig.movable.snapshot() }
      base.verifiesAll = seed == 2
      return base
    }
    // Something is left as it was, however long a busy machine takes to begin.
    let load = try await rig.load(seed: seed, sparedBytes: 3 << 20)
    var wish = wish(base, .wait)
    wish.bytesPerSecond = 24 << 20
    try await rig.move(wish)
    try await rig.until("the same") { $0.phase == .mirroring && $0.roundCount > 0 }
    let expected = try await load.stop()
    try rig.movable.finishMove(.copy)
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), expected) == nil)
    #expect(end.skippedBytes ?? 0 > 1 << 20, "\(end)")
  }

  /// What was sent once isn't taken for the copy's any more, though the disk has again what the copy had: not by the next
  /// server, nor when another method went on meanwhile, nor by a later move.
  @Test(.timeLimit(.minutes(1)), arguments: ["interrupted", "other method", "cancelled"])
  func whatWasSentIsNoCopy(way: String) async throws {
    let rig = try MoveRig(isPrompt: false)
    let base = try BaseWish(manifest: copy(rig, changed: []), seed: 3)
    let place = UInt64(20 * Self.part)
    let old = try rig.store.bytes(at: place, count: Self.part)
    @Sendable func isSame(_ status: MoveStatus) -> Bool {
      status.phase == .mirroring && status.neededBytes == 0
    }
    try await rig.move(wish(base, .wait))
    try await rig.until("the same", isSame)
    let client = try rig.source.connect()
    try await WorkerThread.run("write") {
      try client.put([UInt8](repeating: 0xEE, count: Self.part), at: place)
      client.close()
    }
    #expect(try rig.target.store.bytes(at: place, count: 1) == [0xEE])
    var movable = rig.movable
    func next() async throws {
      movable = try await WorkerThread.run("next") { [movable] in
        movable.suspendMove()
        return try MovableStore(
          rig.store, name: "disk", identity: "one", mapPath: rig.mapPath,
          resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
      }
    }
    func until(_ isSo: (MoveStatus) -> Bool) async throws {
      while true {
        if let status = movable.moveStatus, isSo(status) { return }
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    func move(_ wish: MoveWish) async throws {
      try await WorkerThread.run("move") { [movable] in
        try movable.move(to: rig.target.destination, wish)
      }
    }
    if way == "cancelled" {
      try await WorkerThread.run("cancel") { try rig.movable.cancelMove() }
    } else {
      try await next()
      #expect(movable.moveStatus?.phase == .interrupted)
    }
    if way == "other method" {
      // Begun without a manifest it can't be gone on with by one.
      try await move(rig.wish(.mirror, .wait))
      try await until(isSame)
      try await next()
      let another = try DiskManifest.reading(rig.target.store)
      await #expect(throws: MoveError.self) {
        try await move(wish(BaseWish(manifest: another, seed: 1)))
      }
    }
    try await WorkerThread.run("write") { [movable] in try movable.put(old, at: place) }
    try await move(wish(base))
    try await until { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
    _ = try? await WorkerThread.run("end") { [movable] in movable.suspendMove() }
  }

  /// A copy that goes to its guest is written to over there: its manifest is worth nothing any more. Until then nobody
  /// sends the requests here there.
  @Test(.timeLimit(.minutes(1))) func aCopyThatGoesToItsGuestIsNoneAfterwards() async throws {
    let rig = try MoveRig(isPrompt: false)
    let base = try BaseWish(manifest: copy(rig, changed: []), seed: 3)
    var goes = wish(base, .wait)
    goes.staysHere = true
    try await rig.move(goes)
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    #expect(throws: MoveError.self) { try rig.movable.finishMove(.switching) }
    try rig.movable.finishMove(.copy)
    let first = try await rig.until("copied") { $0.phase == .copied }
    #expect(first.skippedBytes == UInt64(MoveRig.byteCount))
    while rig.movable.move != nil { try await Task.sleep(for: .milliseconds(5)) }
    // As the guest does, where no sample happens to look.
    try rig.target.store.put([1, 2, 3], at: UInt64(20 * Self.part))
    try await rig.move(wish(base))
    let second = try await rig.until("copied") { $0.phase == .copied }
    #expect(second.skippedBytes == 0)
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
  }

  /// Another manifest in between, and the first one's copy is no longer known: what was sent to it has to go again.
  @Test(.timeLimit(.minutes(1))) func aManifestIsSpentByAnother() async throws {
    let rig = try MoveRig(isPrompt: false)
    let first = try BaseWish(manifest: copy(rig, changed: []), seed: 3)
    let place = UInt64(20 * Self.part)
    let old = try rig.store.bytes(at: place, count: Self.part)
    var movable = rig.movable
    // A server of its own for each move.
    func move(_ base: BaseWish) async throws -> UInt64 {
      try await WorkerThread.run("move") { [movable, wish = wish(base, .copy)] in
        try movable.move(to: rig.target.destination, wish)
      }
      var skipped: UInt64?
      while skipped == nil {
        if let status = movable.moveStatus, status.phase == .copied {
          skipped = status.skippedBytes ?? 0
        }
        try await Task.sleep(for: .milliseconds(5))
      }
      movable = try await WorkerThread.run("next") { [movable] in
        movable.suspendMove()
        return try MovableStore(
          rig.store, name: "disk", identity: "one", mapPath: rig.mapPath,
          resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
      }
      return skipped ?? 0
    }
    try rig.store.put([UInt8](repeating: 0xEE, count: Self.part), at: place)
    #expect(try await move(first) > 1 << 20)
    // One that was made of the copy as it is now leaves out what it can.
    let second = try BaseWish(manifest: copy(rig, changed: []), seed: 3)
    #expect(try await move(second) > 1 << 20)
    try rig.store.put(old, at: place)
    #expect(try await move(first) == 0)
    #expect(try rig.target.store.bytes(at: place, count: Self.part) == old)
  }
}
