import Base
import DiskStrategy
import HostIO
import NBD
import Synchronization
import Testing

@testable import BlockStore

/// How long requests of a pulled disk are waited for.
@Suite(.timeLimit(.minutes(3))) struct PullPatienceTests {
  /// What bounds a request is that nothing comes, not how much it needs.
  @Test func aLongReadOverASlowLink() async throws {
    let rig = try PullRig(limits: DiskPull.Limits(patienceMs: 3500))
    let slow = SlowReads(rig.source.store)
    let running = try RunningServer(slow)
    let source = MoveDestination(uri: running.uri, exportName: "disk") {
      try UnixSocket.connect(path: running.socket)
    }
    try await rig.pullOnDemand(from: source)
    slow.isSlow.store(true, ordering: .relaxed)
    // Both need the same parts; each of them brings some, and waits for the others.
    let readers = (0..<2).map { number in
      Task {
        try await WorkerThread.run("read") {
          try rig.pulled.bytes(at: UInt64(1 + number) << 20, count: 3 << 20)
        }
      }
    }
    for (number, reader) in readers.enumerated() {
      let start = (1 + number) << 20
      #expect(try await reader.value == Array(rig.content[start..<start + 3 << 20]))
    }
    let status = try #require(rig.movable.pullStatus)
    // Otherwise it was no long request.
    #expect(status.faultMaxUs ?? 0 > 3_500_000 && status.failedFaults == 0, "\(status)")
    #expect(status.connectionCount == 1)
  }

  /// A source that takes longer than a silent connection is kept to say what of it is zeros is asked about less of it.
  @Test func aSourceThatIsSlowToSayWhatIsZeros() async throws {
    let byteCount: UInt64 = 300 << 20
    let folder = try ScratchFolder()
    let slow = SlowAnswers(
      try FileStore(path: try folder.image("source.raw", byteCount: byteCount)),
      quickByteCount: 64 << 20)
    let running = try RunningServer(slow)
    defer { slow.end() }
    let pulled = try PulledStore(
      try FileStore(path: try folder.image(byteCount: byteCount)), name: "disk", identity: "one",
      path: folder.path + "/disk.pull", limits: DiskPull.Limits(silenceMs: 2500, redialUs: 100_000),
      boot: BootIdentity.current, resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
    let movable = try MovableStore(
      pulled, name: "disk", identity: "one", mapPath: nil,
      resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
    let source = MoveDestination(uri: running.uri, exportName: "disk") {
      try UnixSocket.connect(path: running.socket)
    }
    try await WorkerThread.run("pull") { try movable.pull(from: source, DiskPullWish()) }
    while movable.pullStatus?.phase != .done {
      try #require(movable.pullStatus.map { $0.connectionCount < 6 } == true)
      try await Task.sleep(for: .milliseconds(20))
    }
    let status = try #require(movable.pullStatus)
    // All of it, and then 256 MiB, were too much; nothing was fetched that needn't be. A machine that stands still may
    // break one more.
    #expect((3...5).contains(status.connectionCount) && status.fetchedBytes == 0, "\(status)")
    #expect(status.zeroBytes == byteCount)
  }

  /// A request that still stores what it fetched would store it over what the next pull has brought.
  @Test func aCancelledPullLeavesNoFetch() async throws {
    let image = HeldWrites(VolatileStore(byteCount: PullRig.byteCount, isPrompt: false))
    let rig = try PullRig(image)
    try await rig.pullOnDemand()
    image.hold(true)
    let reader = Task { try await rig.client { try $0.bytes(at: 5 << 20, count: 4096) } }
    try await rig.until("stored") { _ in image.waitingCount > 0 }
    let pull = try #require(rig.pulled.pull)
    let opener = WorkerThread("opener") {
      // Everything else of the pull is over.
      while !pull.state.read({ $0.isCancelled && $0.threadCount == 0 }) {
        MonotonicClock.sleep(us: 1000)
      }
      MonotonicClock.sleep(us: 100_000)
      image.hold(false)
    }
    let left = try await WorkerThread.run("cancel") { () throws -> Int in
      defer { opener.join() }
      try rig.movable.cancelPull()
      return image.waitingCount
    }
    #expect(left == 0)
    // The data were there, and the disk is none any more.
    _ = await reader.result
    let other = try FailingTarget(byteCount: PullRig.byteCount)
    try other.store.put([UInt8](repeating: 9, count: PullRig.byteCount), at: 0)
    try await rig.pull(from: other.destination)
    try await rig.untilHere()
    #expect(try await rig.client { try $0.bytes(at: 5 << 20, count: 4096) }.allSatisfy { $0 == 9 })
  }
}

/// A disk whose reads take a while when it is told so, and that says nothing of holes.
private final class SlowReads: WrappingStore {
  let inner: any DiskStore
  let isSlow = Atomic(false)
  init(_ inner: any DiskStore) { self.inner = inner }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StoreError) {
    if isSlow.load(ordering: .relaxed) { MonotonicClock.sleep(us: 800_000) }
    try inner.read(at: offset, into: target)
  }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    [NBDExtent(length: count, flags: 0)]
  }
}

/// A disk that never says what of it is zeros when that is asked of too much.
private final class SlowAnswers: WrappingStore {
  let inner: any DiskStore
  private let quickByteCount: UInt64
  private let isOver = Guarded(false)
  init(_ inner: any DiskStore, quickByteCount: UInt64) {
    (self.inner, self.quickByteCount) = (inner, quickByteCount)
  }
  func end() { isOver.update { $0 = true } }
  func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    if count > quickByteCount {
      while isOver.wait(timeoutMs: 1000, until: { $0 ? true : nil }) == nil {}
    }
    return try inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}
