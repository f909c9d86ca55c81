import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Synchronization

@testable import BlockStore

/// A disk behind a server of its own, and a destination that can fail.
final class MoveRig: Sendable {
  static let byteCount = 12 << 20

  let folder: ScratchFolder
  let store: any DiskStore
  let movable: MovableStore
  let source: RunningServer
  let target: FailingTarget
  let surrogate: FailingSurrogate
  let backup: FailingTarget
  var mapPath: String { folder.path + "/disk.map" }

  init(
    _ store: any DiskStore, target: FailingTarget, surrogate: FailingSurrogate = .init()
  ) throws {
    (self.store, self.target, self.surrogate) = (store, target, surrogate)
    backup = try FailingTarget(byteCount: Self.byteCount)
    folder = try ScratchFolder()
    movable = try MovableStore(
      store, name: "disk", identity: "one", mapPath: folder.path + "/disk.map",
      resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
    source = try RunningServer(movable)
    // Something else in each block, and zeros here and there.
    let pattern = (0..<Self.byteCount).map { place in
      (place >> 16) % 5 == 0 ? 0 : UInt8(truncatingIfNeeded: (place >> 12) &* 7 &+ 1)
    }
    try store.put(pattern, at: 0)
  }

  func move(_ wish: MoveWish) async throws {
    try await WorkerThread.run("move") { [self] in
      var wish = wish
      if wish.method == .snapmig, wish.snapshot == nil { wish.snapshot = try snapshot() }
      if wish.method == .incremental, wish.base == nil { wish.base = try olderCopy() }
      try movable.move(to: target.destination, wish)
    }
  }

  /// Takes a snapshot, and fills the backup with what the disk has then.
  func snapshot() throws -> SnapshotWish {
    let manifest = try movable.snapshot()
    try backup.store.put(try bytes(of: store), at: 0)
    return SnapshotWish(manifest: manifest, backups: [backup.destination])
  }

  /// Fills the target with what the disk has, but for every fifth part, and makes a manifest of that.
  func olderCopy() throws -> BaseWish {
    var copy = try bytes(of: store)
    for place in stride(from: 0, to: copy.count, by: 5 << 16) { copy[place] ^= 0xA5 }
    try target.store.put(copy, at: 0, durable: true)
    return BaseWish(manifest: try DiskManifest.reading(target.store), seed: 1)
  }

  /// A surrogate is emptied beside the load, and takes long where that never rests.
  ///
  /// - Parameter sparedBytes: at the disk's end, which are not written to.
  func load(
    seed: UInt64, for method: MoveMethod? = nil, sparedBytes: Int = 0
  ) async throws -> DiskLoad {
    let pauseUs: UInt64 = method == .waio ? 4000 : 500
    return try await WorkerThread.run("load") { [self] in
      try DiskLoad(self, seed: seed, pauseUs: pauseUs, sparedBytes: sparedBytes)
    }
  }

  /// Both sides in memory.
  convenience init(isPrompt: Bool = true) throws {
    try self.init(
      TornStore(VolatileStore(byteCount: Self.byteCount, isPrompt: isPrompt)),
      target: try FailingTarget(byteCount: Self.byteCount))
  }

  func wish(
    _ method: MoveMethod, _ ending: MoveEnding = .copy, bytesPerSecond: UInt64? = nil
  ) -> MoveWish {
    var wish = MoveWish()
    (wish.method, wish.ending, wish.bytesPerSecond) = (method, ending, bytesPerSecond)
    if method == .waio { wish.surrogate = surrogate.wish }
    return wish
  }

  /// Waits for a state of the move; throws when it stops on a problem that isn't awaited.
  @discardableResult
  func until(_ what: String, _ isSo: @Sendable (MoveStatus) -> Bool) async throws -> MoveStatus {
    let deadline = MonotonicClock.nowMs + 100_000
    while true {
      if let status = movable.moveStatus, isSo(status) { return status }
      guard MonotonicClock.nowMs < deadline else {
        throw MoveError("not \(what): \(String(describing: movable.moveStatus))")
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Waits until the destination was written to so many times more.
  func untilWritten(_ count: Int) async throws {
    let before = target.store.writes.load(ordering: .relaxed)
    let deadline = MonotonicClock.nowMs + 100_000
    while target.store.writes.load(ordering: .relaxed) < before + count {
      guard MonotonicClock.nowMs < deadline else { throw MoveError("nothing is written") }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Waits until the destination is written to no more: what was on its way may still come.
  func untilQuiet(forMs quietMs: UInt64) async throws {
    var (seen, sinceMs) = (-1, MonotonicClock.nowMs)
    let deadline = MonotonicClock.nowMs + 100_000
    while MonotonicClock.nowMs < sinceMs + quietMs {
      let writes = target.store.writes.load(ordering: .relaxed)
      if writes != seen { (seen, sinceMs) = (writes, MonotonicClock.nowMs) }
      guard MonotonicClock.nowMs < deadline else { throw MoveError("the disk is written to") }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Waits until nothing of the disk is in a surrogate any more.
  func untilAllIsBack() async throws {
    try await until("back") { $0.surrogate == nil }
    // The place can be used again from then on, too.
    try await WorkerThread.run("back") { [self] in
      while movable.source.state.read({ $0.keeperCount > 0 }) { MonotonicClock.sleep(us: 1000) }
    }
  }

  func bytes(of store: any DiskStore) throws -> [UInt8] {
    try store.bytes(at: 0, count: Self.byteCount)
  }
}

extension MoveRig {
  static func wish(_ method: MoveMethod, _ surrogate: FailingSurrogate?) -> MoveWish {
    var wish = MoveWish()
    (wish.method, wish.surrogate) = (method, surrogate?.wish)
    return wish
  }
}

/// A surrogate in memory that can fail.
final class FailingSurrogate: Sendable {
  let store: RefusingStore

  init(byteCount: Int = 24 << 20) { store = RefusingStore(byteCount: byteCount) }

  var place: SurrogatePlace { SurrogatePlace(name: "the surrogate") { [store] in store } }
  var wish: SurrogateWish {
    var wish = SurrogateWish(place)
    wish.popularity.threshold = 2
    return wish
  }
}

/// A disk on which a write takes a while, and is half done in the middle of it.
final class TornStore: DiskStore {
  private let inner: VolatileStore

  init(_ inner: VolatileStore) { self.inner = inner }

  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits { inner.traits }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) {
    inner.read(at: offset, into: target)
  }
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) {
    let half = bytes.count / 2
    inner.write(UnsafeRawBufferPointer(rebasing: bytes[..<half]), at: offset, durable: durable)
    MonotonicClock.sleep(us: (offset >> 12) % 4 == 0 ? 3000 : 200)
    inner.write(
      UnsafeRawBufferPointer(rebasing: bytes[half...]), at: offset + UInt64(half), durable: durable)
  }
  func flush() throws(StoreError) { try inner.flush() }
  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) {
    MonotonicClock.sleep(us: 1000)
    inner.zero(at: offset, count: count, options)
  }
  func trim(at offset: UInt64, count: UInt64) { inner.trim(at: offset, count: count) }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}

/// A destination whose connections can be cut, whose power can fail, and that can refuse writes.
final class FailingTarget: Sendable {
  let store: RefusingStore
  let server: RunningServer
  private let open = Mutex<[StreamSocket]>([])

  init(byteCount: Int) throws {
    store = RefusingStore(byteCount: byteCount)
    server = try RunningServer(store)
  }

  var destination: MoveDestination {
    MoveDestination(uri: server.uri, exportName: "disk") { [self] in
      let socket = try UnixSocket.connect(path: server.socket)
      open.withLock { $0.append(socket) }
      return socket
    }
  }

  /// Breaks all connections; how many were opened since the last time.
  @discardableResult
  func cut() -> Int {
    let sockets = open.withLock { open in
      defer { open = [] }
      return open
    }
    for socket in sockets { socket.shutdown() }
    return sockets.count
  }

  /// The same, and what was not flushed is perhaps lost.
  @discardableResult
  func cut(power random: inout SplitMix64) -> Int {
    let count = cut()
    store.losePower(&random)
    return count
  }
}

/// A disk in memory that refuses writes while it is told to.
final class RefusingStore: DiskStore {
  private let inner: VolatileStore
  private let refuses = Atomic(false)
  let writes = Atomic<Int>(0)

  init(byteCount: Int) { inner = VolatileStore(byteCount: byteCount, isPrompt: false) }

  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits { inner.traits }
  func refuse(_ isSo: Bool) { refuses.store(isSo, ordering: .sequentiallyConsistent) }
  /// The power fails, and is back at once.
  func losePower(_ random: inout SplitMix64) { inner.restart(&random) }

  private func check() throws(StoreError) {
    if refuses.load(ordering: .sequentiallyConsistent) {
      throw StoreError(.noSpace, "the disk is full")
    }
  }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) {
    inner.read(at: offset, into: target)
  }
  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) {
    try check()
    writes.add(1, ordering: .relaxed)
    inner.write(bytes, at: offset, durable: durable)
  }
  func flush() throws(StoreError) { try inner.flush() }
  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) throws(StoreError) {
    try check()
    inner.zero(at: offset, count: count, options)
  }
  func trim(at offset: UInt64, count: UInt64) { inner.trim(at: offset, count: count) }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}

/// Clients that write to a disk until they are stopped, each in a part of its own, and check what they
/// read. Many requests, of any size, aligned and not; zeros and trims among them.
final class DiskLoad: Sendable {
  private let state = Guarded(
    State(stops: false, running: 0, expected: [:], problem: nil))
  private struct State: Sendable {
    var stops: Bool
    var running: Int
    var expected: [Int: [UInt8]]
    var problem: String?
  }
  let parts: Int
  private let partByteCount: Int
  private let server: RunningServer
  private let known: [UInt8]?
  /// The disk's end, behind all parts.
  private let spared: [UInt8]

  convenience init(
    _ rig: MoveRig, parts: Int = 3, seed: UInt64, pauseUs: UInt64 = 500, sparedBytes: Int = 0
  ) throws {
    let spared = Array(try rig.bytes(of: rig.store).suffix(sparedBytes))
    try self.init(rig.source, spared: spared, parts: parts, seed: seed, pauseUs: pauseUs)
  }

  /// - Parameters:
  ///   - known: what the disk has; nil: that is read first.
  ///   - spared: what it has at its end, which is left alone.
  init(
    _ server: RunningServer, known: [UInt8]? = nil, spared: [UInt8] = [], parts: Int = 3,
    seed: UInt64, pauseUs: UInt64 = 500
  ) throws {
    (self.server, self.known, self.spared, self.parts) = (server, known, spared, parts)
    partByteCount = (MoveRig.byteCount - spared.count) / parts
    state.update { $0.running = parts }
    for part in 0..<parts {
      let client = try server.connect()
      _ = WorkerThread("load-\(part)") { [self] in
        run(part, client, seed &* 31 &+ UInt64(part), pauseUs)
        client.close()
      }
    }
  }

  private func run(_ part: Int, _ client: RemoteStore, _ seed: UInt64, _ pauseUs: UInt64) {
    var random = SplitMix64(seed: seed)
    let base = UInt64(part * partByteCount)
    var mine = [UInt8](repeating: 0, count: partByteCount)
    do {
      mine =
        try known.map { Array($0[Int(base)..<(Int(base) + partByteCount)]) }
        ?? client.bytes(at: base, count: partByteCount)
      var step = 0
      while !state.read({ $0.stops }) {
        step += 1
        try self.step(client, base, &mine, &random, step)
        if pauseUs > 0 { MonotonicClock.sleep(us: pauseUs) }
      }
    } catch {
      state.update { $0.problem = "part \(part): \(error)" }
    }
    let copy = mine
    state.update { state in
      state.expected[part] = copy
      state.running -= 1
    }
  }

  private func step(
    _ client: RemoteStore, _ base: UInt64, _ mine: inout [UInt8], _ random: inout SplitMix64,
    _ step: Int
  ) throws {
    var start = Int(random.next() % UInt64(partByteCount))
    // Mostly a hot part, mostly whole blocks.
    if random.next() % 4 != 0 { start %= 1 << 20 }
    var count = Int(random.next() % (random.next() % 8 == 0 ? 300_000 : 20_000)) + 1
    if random.next() % 3 != 0 {
      (start, count) = (start & ~4095, (count + 4095) & ~4095)
    }
    count = min(count, partByteCount - start)
    let range = start..<(start + count)
    switch random.next() % 8 {
    case 0:
      try client.zero(at: base + UInt64(start), count: UInt64(count), [])
      mine.replaceSubrange(range, with: repeatElement(0, count: count))
    case 1, 2, 3:
      let read = try client.bytes(at: base + UInt64(start), count: count)
      guard read == Array(mine[range]) else {
        throw MoveError("step \(step): other bytes at \(base + UInt64(start)) than were written")
      }
    case 4 where random.next() % 4 == 0: try client.flush()
    default:
      let value = UInt8(truncatingIfNeeded: random.next()) | 1
      let bytes = (0..<count).map { value &+ UInt8(truncatingIfNeeded: ($0 + step) >> 9) }
      try client.put(bytes, at: base + UInt64(start))
      mine.replaceSubrange(range, with: bytes)
    }
  }

  /// Ends it; what the disk has to hold then.
  func stop() async throws -> [UInt8] {
    state.update { $0.stops = true }
    let (expected, problem) = try await WorkerThread.run("load-stop") { [self] in
      while true {
        let end = state.wait(timeoutMs: 1000) { state -> ([Int: [UInt8]], String?)? in
          state.running == 0 ? (state.expected, state.problem) : nil
        }
        if let end { return end }
      }
    }
    if let problem { throw MoveError(problem) }
    return (0..<parts).flatMap { expected[$0] ?? [] } + spared
  }
}
