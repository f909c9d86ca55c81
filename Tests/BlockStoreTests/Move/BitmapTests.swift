import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Synchronization
import Testing

@testable import BlockStore

/// Older copies of which a dirty bitmap of QEMU's says what was written since.
@Suite(.enabled(if: Program.exists("qemu-nbd") && Program.exists("qemu-img"), "no qemu-nbd"))
struct BitmapTests {
  private let folder = try! ScratchFolder()
  private var image: String { folder.path + "/disk.qcow2" }
  private var raw: String { folder.path + "/copy.raw" }

  /// An image with data, a raw copy of that, a bitmap that begins then, and 128 KiB in it.
  private func prepare() async throws {
    let size = "\(MoveRig.byteCount)"
    try await Command.run("qemu-img", ["create", "-q", "-f", "qcow2", image, size])
    try await Command.run(
      "qemu-io", ["-f", "qcow2", "-c", "write -P 1 0 8M", "-c", "write -P 2 9M 2M", image])
    try await Command.run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", image, raw])
    try await Command.run("qemu-img", ["bitmap", "--add", image, "b0"])
    try await Command.run(
      "qemu-io", ["-f", "qcow2", "-c", "write -P 3 1M 64k", "-c", "write -P 4 10M 64k", image])
  }

  private func open() async throws -> Qcow2Image {
    try await Qcow2Image.open(image, .locked, bitmaps: ["b0"], in: folder.path + "/child")
  }

  /// A destination that has the copy.
  private func target() throws -> FailingTarget {
    let target = try FailingTarget(byteCount: MoveRig.byteCount)
    try target.store.put(Array(Data(contentsOf: URL(filePath: raw))), at: 0, durable: true)
    return target
  }

  private func movable(_ store: RemoteStore) throws -> MovableStore {
    try MovableStore(
      store, name: "disk", identity: "one", mapPath: folder.path + "/disk.map",
      resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
  }

  private func wish(_ bitmap: BitmapWish, _ ending: MoveEnding = .copy) -> MoveWish {
    var wish = MoveWish()
    (wish.method, wish.ending, wish.bitmap) = (.incremental, ending, bitmap)
    return wish
  }

  private func until(
    _ movable: MovableStore, _ isSo: (MoveStatus) -> Bool
  ) async throws -> MoveStatus {
    let deadlineMs = MonotonicClock.nowMs + 100_000
    while true {
      if let status = movable.moveStatus, isSo(status) { return status }
      guard MonotonicClock.nowMs < deadlineMs else {
        throw MoveError("not in time: \(String(describing: movable.moveStatus))")
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  private func move(
    _ movable: MovableStore, _ target: FailingTarget, _ wish: MoveWish
  ) async throws {
    try await WorkerThread.run("move") { try movable.move(to: target.destination, wish) }
  }

  /// What was written before the move, while its server ran, and while it moves, is sent; the rest isn't.
  @Test(.timeLimit(.minutes(2)), arguments: [false, true])
  func onlyWhatTheBitmapHasIsSent(verifiesAll: Bool) async throws {
    try await prepare()
    let opened = try await open()
    let (movable, target) = (try movable(opened.store), try target())
    let server = try RunningServer(movable)
    #expect(movable.contexts.contains(NBDExtent.dirtyBitmap("b0")))
    let client = try server.connect()
    try await WorkerThread.run("guest") {
      try client.put([UInt8](repeating: 5, count: 4096), at: 3 << 20)
    }
    var bitmap = BitmapWish(name: "b0", seed: 3)
    bitmap.verifiesAll = verifiesAll
    try await move(movable, target, wish(bitmap, .wait))
    // What the bitmap didn't have when it was read.
    try await WorkerThread.run("guest") {
      try client.put([UInt8](repeating: 6, count: 4096), at: 5 << 20)
      try client.put([UInt8](repeating: 7, count: 100), at: (6 << 20) + 77)
    }
    _ = try await until(movable) { $0.neededBytes == 0 && $0.roundCount > 0 }
    try movable.finishMove(.copy)
    let end = try await until(movable) { $0.phase == .copied }
    let expected = try opened.store.bytes(at: 0, count: MoveRig.byteCount)
    #expect(expected[5 << 20] == 6 && expected[(6 << 20) + 77] == 7 && expected[1 << 20] == 3)
    #expect(
      try difference(target.store.bytes(at: 0, count: MoveRig.byteCount), expected) == nil)
    // Five parts of 64 KiB were written, some of them perhaps sent twice.
    #expect(end.skippedBytes ?? 0 >= UInt64(MoveRig.byteCount - (5 << 16)), "\(end)")
    #expect(end.wireBytes <= 10 << 16 && end.readBytes <= 10 << 16, "\(end)")
    #expect(end.baseRefusals == 0, "\(end)")
    client.close()
    _ = try await WorkerThread.run("drain") { server.server.drain(timeoutMs: 5000) }
    await opened.close()
  }

  /// The next move from the same bitmap: it has recorded all along, whatever became of the one before.
  @Test(.timeLimit(.minutes(2))) func theBitmapServesAgain() async throws {
    try await prepare()
    let target = try target()
    for round in 0..<2 {
      let opened = try await open()
      let movable = try movable(opened.store)
      try await WorkerThread.run("guest") {
        try opened.store.put([UInt8](repeating: UInt8(8 + round), count: 4096), at: 7 << 20)
      }
      try await move(movable, target, wish(BitmapWish(name: "b0", seed: 4)))
      let end = try await until(movable) { $0.phase == .copied }
      #expect(end.wireBytes <= 4 << 16, "\(end)")
      let expected = try opened.store.bytes(at: 0, count: MoveRig.byteCount)
      #expect(
        try difference(target.store.bytes(at: 0, count: MoveRig.byteCount), expected) == nil)
      await opened.close()
    }
  }

  @Test(.timeLimit(.minutes(2))) func whatIsNoCopyIsRefused() async throws {
    try await prepare()
    let opened = try await open()
    let movable = try movable(opened.store)
    let target = try target()
    await #expect(throws: MoveError.self) {
      try await move(movable, target, wish(BitmapWish(name: "b1", seed: 1)))
    }
    var mirror = wish(BitmapWish(name: "b0", seed: 1))
    mirror.method = .mirror
    let wrong = mirror
    await #expect(throws: MoveError.self) { try await move(movable, target, wrong) }
    // Another disk: no sample of its parts is the same.
    let other = try FailingTarget(byteCount: MoveRig.byteCount)
    await #expect(throws: MoveError.self) {
      try await move(movable, other, wish(BitmapWish(name: "b0", seed: 1)))
    }
    #expect(movable.moveStatus == nil)
    // A part that differs is sent where every part is looked at.
    try target.store.put([0xEE], at: 4 << 20, durable: true)
    var all = BitmapWish(name: "b0", seed: 1)
    (all.sampleCount, all.verifiesAll) = (0, true)
    try await move(movable, target, wish(all))
    let end = try await until(movable) { $0.phase == .copied }
    #expect(end.baseRefusals == 1, "\(end)")
    let expected = try opened.store.bytes(at: 0, count: MoveRig.byteCount)
    #expect(try difference(target.store.bytes(at: 0, count: MoveRig.byteCount), expected) == nil)
    await opened.close()
  }

  /// The image of a guest that has gone: whoever comes first has it, and its bitmap with it.
  @Test(.timeLimit(.minutes(2))) func anImageThatIsLent() async throws {
    try await prepare()
    let lent = try await LentImage.find(image, bitmaps: ["b0"], in: folder.path + "/child")
    let (movable, target) = (
      try MovableStore(
        PulledStore(
          lent, name: "disk", identity: "one", path: nil,
          resolve: { _ in throw MoveError("nowhere") }, log: { _ in }),
        name: "disk", identity: "one", mapPath: folder.path + "/disk.map",
        resolve: { _ in throw MoveError("nowhere") }, log: { _ in }),
      try target()
    )
    try await move(movable, target, wish(BitmapWish(name: "b0", seed: 6)))
    let end = try await until(movable) { $0.phase == .copied }
    #expect(end.wireBytes == 2 << 16, "\(end)")
    let expected = try lent.bytes(at: 0, count: MoveRig.byteCount)
    #expect(try difference(target.store.bytes(at: 0, count: MoveRig.byteCount), expected) == nil)
    // A snapshot counts for as long as nobody else has the image.
    try await WorkerThread.run("lend") {
      _ = try movable.snapshot()
      try movable.lend(.take)
      #expect(movable.notes.withLock { $0 } != nil)
      try movable.lend(.release)
      #expect(movable.notes.withLock { $0 } == nil)
    }
    await lent.close()
  }

  @Test(.timeLimit(.minutes(1))) func anImageWithoutTheBitmapIsNotOpened() async throws {
    try await prepare()
    await #expect(throws: SpawnError.self) {
      try await Qcow2Image.open(image, .locked, bitmaps: ["b9"], in: folder.path + "/child")
    }
  }
}
