import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Synchronization

@testable import BlockStore

/// A disk behind a server of its own, and a source that can fail.
final class PullRig: Sendable {
  static let byteCount = MoveRig.byteCount

  let folder: ScratchFolder
  let image: any DiskStore
  let source: FailingTarget
  let pulled: PulledStore
  let movable: MovableStore
  let server: RunningServer
  /// What the source has: something else in each block, and zeros here and there.
  static let pattern = (0..<byteCount).map { place in
    (place >> 16) % 5 == 0 ? 0 : UInt8(truncatingIfNeeded: (place >> 12) &* 7 &+ 1)
  }
  var content: [UInt8] { Self.pattern }
  var path: String { folder.path + "/disk.pull" }

  init(
    _ image: any DiskStore = VolatileStore(byteCount: PullRig.byteCount, isPrompt: true),
    limits: DiskPull.Limits = .init(), folder: ScratchFolder? = nil, source: FailingTarget? = nil,
    boot: String = BootIdentity.current
  ) throws {
    let target = try source ?? FailingTarget(byteCount: Self.byteCount)
    (self.image, self.source) = (image, target)
    self.folder = try folder ?? ScratchFolder()
    if source == nil { try target.store.put(Self.pattern, at: 0) }
    pulled = try PulledStore(
      image, name: "disk", identity: "one", path: self.folder.path + "/disk.pull", limits: limits,
      boot: boot, resolve: { _ in target.destination }, log: { _ in })
    movable = try MovableStore(
      pulled, name: "disk", identity: "one", mapPath: self.folder.path + "/disk.map",
      resolve: { _ in throw MoveError("nowhere") }, log: { _ in })
    server = try RunningServer(movable)
  }

  /// Nobody looks at it any more.
  deinit { pulled.pull?.state.update { if $0.isPulling { $0.stage = .suspended } } }

  /// - Parameter isPaused: it is paused right away: whoever does that later may find that everything is here.
  func pull(
    bytesPerSecond: UInt64? = nil, from source: MoveDestination? = nil, isPaused: Bool = false
  ) async throws {
    try await WorkerThread.run("pull") { [self] in
      var wish = DiskPullWish()
      wish.bytesPerSecond = bytesPerSecond
      // A disk in memory doesn't say that it is empty.
      wish.overwrites = true
      try movable.pull(from: source ?? self.source.destination, wish)
      if isPaused { try movable.pausePull() }
    }
  }

  /// The same, with nothing fetched but what is asked for.
  func pullOnDemand(
    bytesPerSecond: UInt64 = 1, from source: MoveDestination? = nil
  ) async throws {
    try await pull(bytesPerSecond: bytesPerSecond, from: source, isPaused: true)
    // What a copier had taken is over then.
    try await until("idle") { _ in
      self.pulled.pull?.state.read({ $0.map.isIdle && !$0.isAsking }) == true
    }
  }

  @discardableResult
  func until(
    _ what: String, _ isSo: @Sendable (DiskPullStatus) -> Bool
  ) async throws -> DiskPullStatus {
    let deadline = MonotonicClock.nowMs + 100_000
    while true {
      if let status = movable.pullStatus, isSo(status) { return status }
      guard MonotonicClock.nowMs < deadline else {
        throw MoveError("not \(what): \(String(describing: movable.pullStatus))")
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Waits until the image is the disk: also one that an earlier server made it.
  func untilHere() async throws {
    if movable.pullStatus != nil { try await until("done") { $0.phase == .done } }
    guard !FileManager.default.fileExists(atPath: path) else { throw MoveError("the map is left") }
  }

  /// Does something as a client.
  func client<R: Sendable>(_ body: @escaping @Sendable (RemoteStore) throws -> R) async throws -> R
  {
    try await WorkerThread.run("client") { [self] in
      let client = try server.connect()
      defer { client.close() }
      return try body(client)
    }
  }

  /// The server dies: what is not in the image, or in the map, is gone.
  func die() async throws {
    try await WorkerThread.run("die") { [self] in
      guard let pull = pulled.pull else { return }
      pull.state.update { $0.stage = .suspended }
      pull.waitForThreads()
      pull.state.update { $0.file = nil }
    }
  }
}

/// A disk that does something else than the one within in one point.
protocol WrappingStore: DiskStore {
  var inner: any DiskStore { get }
}

extension WrappingStore {
  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits {
    var traits = inner.traits
    traits.isPrompt = false
    return traits
  }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StoreError) {
    try inner.read(at: offset, into: target)
  }
  func write(
    _ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool
  ) throws(StoreError) { try inner.write(bytes, at: offset, durable: durable) }
  func flush() throws(StoreError) { try inner.flush() }
  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) throws(StoreError) {
    try inner.zero(at: offset, count: count, options)
  }
  func trim(at offset: UInt64, count: UInt64) throws(StoreError) {
    try inner.trim(at: offset, count: count)
  }
  func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    try inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}

/// A disk whose reads wait while it is told to.
final class SilentStore: WrappingStore {
  let inner: any DiskStore
  private let isSilent = Guarded(false)

  init(_ inner: any DiskStore) { self.inner = inner }

  func keepSilent(_ isSo: Bool) { isSilent.update { $0 = isSo } }

  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StoreError) {
    while isSilent.wait(timeoutMs: 1000, until: { $0 ? nil : true }) == nil {}
    try inner.read(at: offset, into: target)
  }
}
