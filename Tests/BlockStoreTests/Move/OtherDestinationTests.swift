import DiskStrategy
import HostIO
import NBD
import Synchronization
import Testing

@testable import BlockStore

/// Destinations that come back as something else.
@Suite struct OtherDestinationTests {
  /// An export behind which there may be another disk from one connection to the next.
  private final class Places: Sendable {
    let stores: [VolatileStore]
    private let servers: [RunningServer]
    private let now = Guarded(0)
    private let open = Mutex<[StreamSocket]>([])

    /// - Parameter descriptions: what each disk's server says of it.
    init(_ descriptions: [String]) throws {
      let stores = descriptions.map { _ in
        VolatileStore(byteCount: MoveRig.byteCount, isPrompt: false)
      }
      self.stores = stores
      servers = try zip(stores, descriptions).map { store, description in
        try RunningServer([ServedDisk(name: "disk", description: description, store: store)])
      }
    }

    var destination: MoveDestination {
      MoveDestination(uri: "nbd://there/disk", exportName: "disk") { [self] in
        let socket = try UnixSocket.connect(path: servers[now.read { $0 }].socket)
        open.withLock { $0.append(socket) }
        return socket
      }
    }

    /// From the next connection on, which is soon.
    func become(_ index: Int) {
      now.update { $0 = index }
      for socket in open.withLock({ open in
        defer { open = [] }
        return open
      }) { socket.shutdown() }
    }
  }

  private func begin(_ rig: MoveRig, _ places: Places, _ ending: MoveEnding) async throws {
    try await WorkerThread.run("move") {
      try rig.movable.move(to: places.destination, rig.wish(.mirror, ending))
    }
  }

  /// Everything has arrived and is on stable storage.
  private func untilAllIsThere(_ rig: MoveRig) async throws {
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    while try rig.movable.status(
      of: NBDExtent.needed, at: 0, count: UInt64(MoveRig.byteCount), extentsMax: 4096
    ).contains(where: { $0.flags != 0 }) { try await Task.sleep(for: .milliseconds(20)) }
  }

  /// The export's name and age are the same, or it has none, and what it had is gone; or it says that it is another.
  @Test(
    .timeLimit(.minutes(2)),
    arguments: [("", ""), ("file 1:2 3", "file 1:2 3"), ("file 1:2 3", "file 1:2 4")])
  func anImageThatWasMadeAnewGetsEverything(before: String, after: String) async throws {
    let rig = try MoveRig()
    let places = try Places([before, after])
    try await begin(rig, places, .wait)
    try await untilAllIsThere(rig)
    let sent = try #require(rig.movable.moveStatus).arrivedBytes
    places.become(1)
    try await rig.until("there again") { $0.connectionCount > 1 && $0.arrivedBytes >= sent * 2 }
    try await rig.until("the same") { $0.phase == .mirroring && $0.neededBytes == 0 }
    try rig.movable.finishMove(.copy)
    try await rig.until("copied") { $0.phase == .copied }
    #expect(try difference(rig.bytes(of: places.stores[1]), rig.bytes(of: rig.store)) == nil)
  }

  /// A destination whose own disk moves on, or that had another number after a boot, is still the same.
  @Test(.timeLimit(.minutes(2)), arguments: ["file 1:2 3 (moving)", "file 8:2 3"])
  func aDestinationThatStaysTheSameGetsNothingTwice(after: String) async throws {
    let rig = try MoveRig()
    let places = try Places(["file 1:2 3", after])
    try await begin(rig, places, .wait)
    try await untilAllIsThere(rig)
    let sent = try #require(rig.movable.moveStatus).arrivedBytes
    try places.stores[1].put(try rig.bytes(of: rig.store), at: 0, durable: true)
    places.become(1)
    try await rig.until("there again") { $0.connectionCount > 1 && $0.phase == .mirroring }
    try rig.movable.finishMove(.copy)
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(end.arrivedBytes == sent)
    #expect(try difference(rig.bytes(of: places.stores[1]), rig.bytes(of: rig.store)) == nil)
  }

  /// Once the guest's requests go there nothing is sent again: no other disk may pass for the one that has them.
  @Test(.timeLimit(.minutes(2))) func noOtherDiskBecomesTheGuests() async throws {
    let rig = try MoveRig()
    let places = try Places(["file 1:2 3", "file 1:9 9"])
    try await begin(rig, places, .switching)
    try await rig.until("switched") { $0.phase == .switched }
    let client = try rig.source.connect()
    // What no flush has covered is written again over each new connection.
    try await WorkerThread.run("guest") { try client.put([1, 2, 3], at: 4096) }
    places.become(1)
    let refused = try await rig.until("refused") { $0.problem?.contains("another disk") == true }
    #expect(refused.phase == .switched)
    let untouched = [UInt8](repeating: 0, count: MoveRig.byteCount)
    #expect(try difference(rig.bytes(of: places.stores[1]), untouched) == nil)
    places.become(0)
    try await rig.until("back") { $0.problem == nil }
    try await WorkerThread.run("guest") { try client.put([4], at: 8192) }
    #expect(try places.stores[0].bytes(at: 8192, count: 1) == [4])
    client.close()
    try await WorkerThread.run("die") { rig.movable.suspendMove() }

    // The next server knows it, too, unless somebody says that it is the same.
    places.become(1)
    func next(trusts: Bool) async throws -> MovableStore {
      try await WorkerThread.run("next") {
        try MovableStore(
          rig.store, name: "disk", identity: "one", mapPath: rig.mapPath,
          resolve: { _ in places.destination }, trustsDestination: trusts, log: { _ in })
      }
    }
    func until(_ store: MovableStore, _ isSo: @Sendable (MoveStatus) -> Bool) async throws {
      while !(store.moveStatus.map(isSo) ?? false) { try await Task.sleep(for: .milliseconds(5)) }
    }
    let second = try await next(trusts: false)
    try await until(second) { $0.problem?.contains("another disk") == true }
    try await WorkerThread.run("die") { second.suspendMove() }
    #expect(try difference(rig.bytes(of: places.stores[1]), untouched) == nil)
    let third = try await next(trusts: true)
    try await WorkerThread.run("guest") { try third.put([5], at: 0) }
    #expect(try places.stores[1].bytes(at: 0, count: 1) == [5])
    // From then on that is the disk.
    places.become(0)
    try await until(third) { $0.problem?.contains("another disk") == true }
    try await WorkerThread.run("die") { third.suspendMove() }
  }
}
