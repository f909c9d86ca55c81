import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Testing

@testable import BlockStore

/// What becomes of a disk that is pulled when its source, or its image, fails.
@Suite struct PullFailureTests {
  private static let impatient = DiskPull.Limits(
    patienceMs: 6000, silenceMs: 500, redialUs: 50_000, checkpointUs: 20_000, openingMs: 200)

  /// A source that gives no answers: what is here is served, what isn't fails after a while, and what a guest
  /// writes needs no source.
  @Test(.timeLimit(.minutes(3))) func aSilentSource() async throws {
    let rig = try PullRig(limits: Self.impatient)
    let silent = SilentStore(rig.source.store)
    let running = try RunningServer(silent)
    let source = MoveDestination(uri: running.uri, exportName: "disk") {
      try UnixSocket.connect(path: running.socket)
    }
    try await rig.pull(bytesPerSecond: 1, from: source)
    let base: UInt64 = 4 << 20
    let first = try await rig.client { try $0.bytes(at: base, count: 4096) }
    #expect(first == Array(rig.content[(4 << 20)..<(4 << 20) + 4096]))
    silent.keepSilent(true)
    // More at once than there are threads for what doesn't wait; connected before the first of them loses its patience.
    let clients = try await WorkerThread.run("connect") {
      try (0..<24).map { _ in try rig.server.connect() }
    }
    let waiting = clients.enumerated().map { number, client in
      Task {
        try await WorkerThread.run("client") {
          defer { client.close() }
          return try client.bytes(at: base + UInt64(number + 1) << 18, count: 1)
        }
      }
    }
    try await rig.until("waiting") { _ in
      rig.pulled.pull?.state.read({ $0.waitingCount >= 24 }) == true
    }
    #expect(try await rig.client { try $0.bytes(at: base, count: 4096) } == first)
    try await rig.client { try $0.put([UInt8](repeating: 9, count: 8192), at: 11 << 20) }
    #expect(try await rig.client { try $0.bytes(at: 11 << 20, count: 1) } == [9])
    for task in waiting {
      let result = await task.result
      #expect(throws: StoreError.self) { try result.get() }
    }
    silent.keepSilent(false)
    #expect(
      try await rig.client { try $0.bytes(at: 9 << 20, count: 4096) }
        == Array(rig.content[(9 << 20)..<(9 << 20) + 4096]))
    let status = try #require(rig.movable.pullStatus)
    #expect(status.failedFaults == 24 && status.connectionCount > 1, "\(status)")
  }

  /// An image that can't be written: the guest reads what the source has, and the pull says why it rests.
  @Test(.timeLimit(.minutes(3))) func aFullDisk() async throws {
    let image = RefusingStore(byteCount: PullRig.byteCount)
    let rig = try PullRig(image)
    image.refuse(true)
    try await rig.pull()
    let stopped = try await rig.until("stopped") { $0.problem != nil }
    #expect(stopped.phase == .paused && stopped.problem?.contains("the disk is full") == true)
    let bytes = try await rig.client { try $0.bytes(at: 65000, count: 300_000) }
    #expect(bytes == Array(rig.content[65000..<365_000]))
    await #expect(throws: StoreError(.noSpace, "the disk is full")) {
      try await rig.client { try $0.put([1, 2, 3], at: 100) }
    }
    await #expect(throws: StoreError(.noSpace, "the disk is full")) {
      try await rig.client { try $0.put([UInt8](repeating: 1, count: 8192), at: 8192) }
    }
    #expect(rig.movable.pullStatus?.missingBytes == UInt64(PullRig.byteCount))
    image.refuse(false)
    try rig.movable.resumePull()
    try await rig.until("done") { $0.phase == .done }
    #expect(difference(rig.content, try image.bytes(at: 0, count: PullRig.byteCount)) == nil)
  }

  /// A flush of the image that fails is told to the guest, and nothing counts as stable.
  @Test(.timeLimit(.minutes(3))) func aFlushThatFails() async throws {
    let image = VolatileStore(byteCount: PullRig.byteCount, isPrompt: true)
    let rig = try PullRig(image)
    image.failFlushes()
    try await rig.pull()
    let status = try await rig.until("stopped") { $0.problem != nil }
    #expect(status.phase == .paused && FileManager.default.fileExists(atPath: rig.path))
    await #expect(throws: StoreError.self) { try await rig.client { try $0.flush() } }
    let file = try #require(rig.pulled.pull?.state.read { $0.file })
    try await rig.die()
    #expect(try file.load(boot: "another").missing.population == PullRig.byteCount / 4096)
  }

  /// A source that comes back as another disk isn't read from.
  @Test(.timeLimit(.minutes(3))) func anotherDisk() async throws {
    let rig = try PullRig(limits: Self.impatient)
    func server(_ byteCount: Int, _ description: String) throws -> RunningServer {
      let store = VolatileStore(byteCount: byteCount, isPrompt: true)
      try store.put([UInt8](repeating: 7, count: byteCount), at: 0)
      return try RunningServer([ServedDisk(name: "disk", description: description, store: store)])
    }
    let servers = try [
      server(PullRig.byteCount, "file 1:2"), server(PullRig.byteCount, "file 1:3"),
      server(PullRig.byteCount + 4096, "file 1:2"), server(PullRig.byteCount, "file 1:2 (moving)"),
    ]
    let now = Guarded(0)
    let open = Guarded<StreamSocket?>(nil)
    let source = MoveDestination(uri: "nbd://x/disk", exportName: "disk") {
      let socket = try UnixSocket.connect(path: servers[now.read { $0 }].socket)
      open.update { $0 = socket }
      return socket
    }
    try await rig.pull(bytesPerSecond: 1, from: source)
    for (index, reason) in [(1, "another disk"), (2, "bytes")] {
      now.update { $0 = index }
      _ = open.read { $0?.shutdown() }
      let status = try await rig.until("refused") { $0.problem?.contains(reason) == true }
      #expect(status.phase == .connecting)
      await #expect(throws: StoreError.self) {
        try await rig.client { try $0.bytes(at: 10 << 20, count: 1) }
      }
    }
    // What is done to the disk doesn't make it another one.
    now.update { $0 = 3 }
    try await rig.until("back") { $0.phase == .pulling }
    #expect(try await rig.client { try $0.bytes(at: 10 << 20, count: 1) } == [7])
    // The next server isn't started with another one.
    try await rig.die()
    func next(trusts: Bool = false) async throws -> PulledStore {
      try await WorkerThread.run("next") {
        try PulledStore(
          rig.image, name: "disk", identity: "one", path: rig.path, limits: Self.impatient,
          boot: BootIdentity.current, resolve: { _ in source }, trustsSource: trusts,
          log: { _ in })
      }
    }
    now.update { $0 = 1 }
    await #expect(throws: MoveError.self) { try await next() }
    now.update { $0 = 0 }
    let store = try await next()
    #expect(try await WorkerThread.run("read") { try store.bytes(at: 11 << 20, count: 1) } == [7])
    // Unless somebody says that it is the same.
    try await WorkerThread.run("die") { if let pull = store.pull { pull.suspend() } }
    now.update { $0 = 1 }
    let trusting = try await next(trusts: true)
    try await WorkerThread.run("die") { if let pull = trusting.pull { pull.suspend() } }
    now.update { $0 = 0 }
    await #expect(throws: MoveError.self) { try await next() }
  }

  @Test(.timeLimit(.minutes(3))) func whatCantBePulledIsSaid() async throws {
    let rig = try PullRig(limits: Self.impatient)
    #expect(throws: MoveError.self) { try rig.movable.pausePull() }
    let small = try FailingTarget(byteCount: 1 << 20)
    await #expect(throws: MoveError.self) { try await rig.pull(from: small.destination) }
    #expect(rig.movable.pullStatus == nil)
    try await rig.pull(bytesPerSecond: 1)
    await #expect(throws: MoveError.self) { try await rig.pull() }
    #expect(throws: MoveError.self) { try rig.movable.move(to: small.destination, MoveWish()) }
    #expect(throws: MoveError.self) { _ = try rig.movable.snapshot() }
    #expect(rig.movable.moveNote == MovableStore.pulledNote)
    // Nothing was written: the source is the disk, and this one none.
    try await WorkerThread.run("cancel") { try rig.movable.cancelPull() }
    #expect(!FileManager.default.fileExists(atPath: rig.path))
    for isWrite in [false, true] {
      await #expect(throws: StoreError.self) {
        try await rig.client { client in
          if isWrite { try client.put([1], at: 0) } else { _ = try client.bytes(at: 0, count: 1) }
        }
      }
    }
    // It can be pulled again, and once it was written it is the disk.
    try await rig.pull(bytesPerSecond: 1)
    try await rig.client { try $0.put([1], at: 0) }
    #expect(throws: MoveError.self) { try rig.movable.cancelPull() }
    try await rig.die()
    let other = VolatileStore(byteCount: PullRig.byteCount, isPrompt: true)
    #expect(throws: MoveError.self) {
      try PulledStore(
        other, name: "disk", identity: "two", path: rig.path,
        resolve: { _ in rig.source.destination }, log: { _ in })
    }
    // Who comes next still knows that it was.
    let next = try PullRig(rig.image, folder: rig.folder, source: rig.source)
    #expect(next.movable.pullStatus?.isWritten == true)
    #expect(throws: MoveError.self) { try next.movable.cancelPull() }
  }
}
