import Base
import DiskStrategy
import HostIO
import NBD
import Synchronization
import Testing

@testable import BlockStore

/// Servers whose connections stay, and that answer no more.
@Suite struct SilenceTests {
  enum Request: CaseIterable, Sendable { case read, write, flush, durable, zero, largeWrites }

  private static let limit = SilenceLimit(server: "the server", answerMs: 1000, flushMs: 1200)
  /// Until it is silent, a busy machine's surrogate has time to answer.
  private static let surrogateLimit = SilenceLimit(
    server: "the surrogate", answerMs: 3000, flushMs: 3200)

  @Test(.timeLimit(.minutes(3)), arguments: Request.allCases)
  func silenceIsAnError(request: Request) async throws {
    let server = try RunningServer(VolatileStore(byteCount: 8 << 20, isPrompt: false))
    let proxy = try SilentProxy(to: server)
    defer { proxy.close() }
    let silence = try await WorkerThread.run("silence") { () throws -> ServerSilence? in
      let store = try proxy.destination.connect(silence: Self.limit)
      try store.put([1, 2, 3], at: 0)
      proxy.beSilent(true)
      // More than any socket's buffer: nobody waits for an answer, all wait for room.
      let writers = request == .largeWrites ? 4 : 1
      let errors = Guarded<[String]>([])
      for _ in 0..<writers {
        _ = WorkerThread("silent") {
          do {
            switch request {
            case .read: _ = try store.bytes(at: 0, count: 3)
            case .write: try store.put([4], at: 0)
            case .flush: try store.flush()
            case .durable: try store.put([4], at: 0, durable: true)
            case .zero: try store.zero(at: 0, count: 1 << 20, [])
            case .largeWrites: try store.put([UInt8](repeating: 5, count: 4 << 20), at: 0)
            }
            errors.update { $0.append("none") }
          } catch {
            errors.update { $0.append("\(error)") }
          }
        }
      }
      let found = errors.wait { $0.count == writers ? $0 : nil } ?? []
      for text in found { #expect(text.hasPrefix("the server was silent for"), "\(text)") }
      #expect(store.isBroken)
      #expect(throws: StoreError.self) { try store.flush() }
      return store.silence
    }
    let found = try #require(silence)
    #expect(found.silentMs > Self.limit.answerMs && found.server == "the server")
    let owed = [found.reads, found.writes, found.flushes, found.others]
    switch request {
    case .read: #expect(owed == [1, 0, 0, 0])
    case .write: #expect(owed == [0, 1, 0, 0])
    case .flush, .durable, .zero:
      #expect(owed == [0, 0, 1, 0] && found.silentMs > Self.limit.flushMs)
    case .largeWrites: #expect(found.writes > 0 && found.reads + found.flushes + found.others == 0)
    }
  }

  /// Who waits for a device takes as long as it takes, and a server that nobody asks anything is not silent.
  @Test(.timeLimit(.minutes(3))) func aFlushMayTakeLonger() async throws {
    let slow = SlowFlushes(VolatileStore(byteCount: 1 << 20, isPrompt: false))
    let server = try RunningServer(slow)
    try await WorkerThread.run("slow") {
      let limit = SilenceLimit(server: "it", answerMs: 20, flushMs: 100_000)
      let destination = MoveDestination(uri: "x", exportName: "disk") {
        try UnixSocket.connect(path: server.socket)
      }
      let store = try destination.connect(silence: limit)
      try store.flush()
      MonotonicClock.sleep(us: 100_000)
      try store.flush()
      #expect(!store.isBroken && store.silence == nil)
      store.close()
    }
  }

  /// Only what the guest could go on without is given up for taking as long as a slow disk may.
  @Test(.timeLimit(.minutes(3)), arguments: [true, false])
  func aMoveWaitsForASlowDisk(isAwaited: Bool) async throws {
    let server = try RunningServer(VolatileStore(byteCount: 1 << 20, isPrompt: false))
    let proxy = try SilentProxy(to: server)
    defer { proxy.close() }
    try await WorkerThread.run("slow") {
      let link = MoveLink(1, try proxy.destination.connect(silence: .destination))
      proxy.beSilent(true)
      let others = [
        WorkerThread("zero") { try? link.zero(at: 0, count: 1 << 20, []) },
        WorkerThread("flush") { try? link.flush() },
        WorkerThread("write") {
          let bytes: [UInt8] = [1]
          bytes.withUnsafeBytes { try? link.write($0, at: 0, durable: true) }
        },
      ]
      let nowUs = MonotonicClock.nowUs
      var awaited: WorkerThread?
      if isAwaited {
        let bytes: [UInt8] = [1]
        let pending = try bytes.withUnsafeBytes {
          try link.startWrite($0, at: 4096, isAwaited: true)
        }
        // What the guest's own disk takes now doesn't count.
        #expect(!link.holdsGuest(nowUs + 100_000_000, heldSinceUs: 0))
        awaited = WorkerThread("finish") { try? link.finish(pending) }
        while !link.holdsGuest(nowUs + 100_000_000, heldSinceUs: 0) {
          MonotonicClock.sleep(us: 1000)
        }
      }
      #expect(!link.holdsGuest(nowUs + 9_000_000, heldSinceUs: nowUs))
      #expect(link.holdsGuest(nowUs + 100_000_000, heldSinceUs: 0) == isAwaited)
      #expect(link.holdsGuest(nowUs + 100_000_000, heldSinceUs: nowUs))
      proxy.beSilent(false)
      others.forEach { $0.join() }
      awaited?.join()
      #expect(!link.isBroken && !link.holdsGuest(nowUs + 200_000_000, heldSinceUs: 0))
      link.close()
    }
  }

  /// The guest's write goes to the disk, and what was in the surrogate comes back once it answers again.
  @Test(.timeLimit(.minutes(2))) func aSilentSurrogateIsAFailedOne() async throws {
    let folder = try ScratchFolder()
    let original = VolatileStore(byteCount: 8 << 20, isPrompt: false)
    let server = try RunningServer(VolatileStore(byteCount: 24 << 20, isPrompt: false))
    let proxy = try SilentProxy(to: server)
    defer { proxy.close() }
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try await WorkerThread.run("use") {
      let place = SurrogatePlace(
        name: "export", export: proxy.destination,
        silence: Self.surrogateLimit)
      try disk.begin(
        SurrogateWish(place), SurrogateLink.make(place), path: folder.path + "/map.surrogate",
        identity: "one", settle: {})
      try disk.put([UInt8](repeating: 7, count: 1 << 20), at: 0)
      try disk.flush()
      proxy.beSilent(true)
      try disk.put([UInt8](repeating: 8, count: 4096), at: 4096)
      let status = try #require(disk.surrogateStatus)
      #expect(status.phase == .returning, "\(status)")
      // The write went to the disk, and had to read nothing.
      #expect(try original.bytes(at: 4096, count: 4096).allSatisfy { $0 == 8 })
      #expect(try original.bytes(at: 8192, count: 4096).allSatisfy { $0 == 0 })
      try disk.flush()
      proxy.beSilent(false)
      let (first, last) = (
        try disk.bytes(at: 0, count: 4096), try disk.bytes(at: 1 << 19, count: 9)
      )
      #expect((first + last).allSatisfy { $0 == 7 })
      while disk.isInUse || disk.state.read({ $0.keeperCount > 0 }) {
        MonotonicClock.sleep(us: 1000)
      }
      let all = try original.bytes(at: 0, count: 1 << 20)
      #expect(all.enumerated().allSatisfy { $0.element == ($0.offset / 4096 == 1 ? 8 : 7) })
    }
  }

  /// A read alone finds it out, too: the surrogate is used no more.
  @Test(.timeLimit(.minutes(2))) func aSurrogateThatIsSilentToReads() async throws {
    let folder = try ScratchFolder()
    let original = VolatileStore(byteCount: 8 << 20, isPrompt: false)
    let server = try RunningServer(VolatileStore(byteCount: 24 << 20, isPrompt: false))
    let proxy = try SilentProxy(to: server)
    defer { proxy.close() }
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try await WorkerThread.run("use") {
      let place = SurrogatePlace(
        name: "export", export: proxy.destination,
        silence: Self.surrogateLimit)
      try disk.begin(
        SurrogateWish(place), SurrogateLink.make(place), path: folder.path + "/map.surrogate",
        identity: "one", settle: {})
      try disk.put([UInt8](repeating: 7, count: 8192), at: 0)
      try disk.flush()
      proxy.beSilent(true)
      _ = WorkerThread("again") {
        while disk.surrogateStatus?.phase == .inUse { MonotonicClock.sleep(us: 1000) }
        proxy.beSilent(false)
      }
      // It waits until the surrogate answers again.
      #expect(try disk.bytes(at: 1, count: 8000).allSatisfy { $0 == 7 })
      let status = disk.surrogateStatus
      #expect(status?.phase != .inUse, "\(String(describing: status))")
      while disk.isInUse || disk.state.read({ $0.keeperCount > 0 }) {
        MonotonicClock.sleep(us: 1000)
      }
      #expect(try original.bytes(at: 0, count: 8192).allSatisfy { $0 == 7 })
    }
  }

  /// The next backup has the same, or the disk.
  @Test(.timeLimit(.minutes(3))) func aSilentBackupIsPassedBy() async throws {
    let rig = try MoveRig(isPrompt: false)
    let proxy = try SilentProxy(to: rig.backup.server)
    defer { proxy.close() }
    var wish = rig.wish(.snapmig, .copy, bytesPerSecond: 4 << 20)
    wish.snapshot = try await WorkerThread.run("snapshot") {
      var snapshot = try rig.snapshot()
      (snapshot.backups, snapshot.silenceMs) = ([proxy.destination], 1500)
      return snapshot
    }
    // In the middle, however late this test looks: much more than is ever asked for at once, much less than the disk has.
    proxy.beSilent(after: 5 << 20)
    try await rig.move(wish)
    let end = try await rig.until("copied") { $0.phase == .copied }
    #expect(end.readBytes > 0 && end.backupBytes ?? 0 > 1 << 20, "\(end)")
    #expect(try difference(rig.bytes(of: rig.target.store), rig.bytes(of: rig.store)) == nil)
  }
}

/// A disk whose flushes take a while.
private final class SlowFlushes: DiskStore {
  private let inner: VolatileStore
  init(_ inner: VolatileStore) { self.inner = inner }
  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits { inner.traits }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) {
    inner.read(at: offset, into: target)
  }
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) {
    inner.write(bytes, at: offset, durable: durable)
  }
  func flush() throws(StoreError) {
    MonotonicClock.sleep(us: 300_000)
    try inner.flush()
  }
  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) {
    inner.zero(at: offset, count: count, options)
  }
  func trim(at offset: UInt64, count: UInt64) { inner.trim(at: offset, count: count) }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}
