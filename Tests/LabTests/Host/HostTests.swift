import Base
import FoundationEssentials
import Glibc
import HostIO
import Testing

@testable import Lab

@Suite(.serialized) struct HostTests {
  static let isRoot = geteuid() == 0

  /// A folder of the test's own for runs.
  private func withBase(_ body: (String) async throws -> Void) async throws {
    let base = "/tmp/gwt-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    do {
      try await body(base)
    } catch {
      try? FileManager.default.removeItem(atPath: base)
      throw error
    }
    try? FileManager.default.removeItem(atPath: base)
  }

  @Test(.enabled(if: isRoot, "skipped: network namespaces need root"))
  func hostsReachEachOtherAndLeaveNothingBehind() async throws {
    try await withBase { base in
      let folder = try await RunFolder.create(base: base)
      let hosts = try await HostPair.create(kind: .namespaces, linkRate: nil, folder: folder)
      let before = try #require(try await hosts.wireBytes())
      let (command, arguments) = hosts.command(
        on: .source, "busybox", ["ping", "-c", "1", "-W", "15", "10.78.0.2"])
      try await Command.run(command, arguments)
      let after = try #require(try await hosts.wireBytes())
      // An echo and its reply, and possibly address resolution.
      #expect(after - before >= 2 * 98)
      let client = try #require(hosts.clientNamespace)
      #expect(try await client.ip("-brief", "link").contains("br0"))
      await hosts.remove()
      folder.remove()
      let left = try await NetworkNamespace.all().filter { $0.name.hasPrefix(folder.prefix) }
      #expect(left.isEmpty)
    }
  }

  /// A connection takes one way there and back; what is sent over it arrives whole.
  @Test(.enabled(if: isRoot, "skipped: network namespaces need root"))
  func hostsAreAsFarApartAsAskedFor() async throws {
    try await withBase { base in
      let folder = try await RunFolder.create(base: base)
      let hosts = try await HostPair.create(
        kind: .namespaces, linkRate: ByteRate(parsing: "500Mbit"), latencyMs: 30, folder: folder)
      let (here, there) = (hosts.namespace(.source), hosts.namespace(.destination))
      let listener = try await WorkerThread.run("test") {
        try there.enter()
        return try TCPSocket.listen(host: "10.78.0.2", port: 5555)
      }
      let (sender, tookUs) = try await WorkerThread.run("test") {
        try here.enter()
        let startUs = MonotonicClock.nowUs
        let socket = try TCPSocket.connect(host: "10.78.0.2", port: 5555, timeoutMs: 10_000)
        return (socket, MonotonicClock.nowUs - startUs)
      }
      #expect(tookUs >= 60_000)
      let bytes = (0..<(4 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 13) }
      let receiver = try await WorkerThread.run("test") { try listener.accept(timeoutMs: 30_000) }
      _ = WorkerThread("test") {
        try? sender.writeAll(bytes.span.bytes)
        sender.shutdown()
      }
      let got = try await WorkerThread.run("test") { () -> [UInt8] in
        var (all, room) = ([UInt8](), [UInt8](repeating: 0, count: 1 << 16))
        while let receiver,
          case let count = try room.withUnsafeMutableBytes({
            try receiver.read(into: $0)
          }), count > 0
        { all += room[..<count] }
        return all
      }
      #expect(got == bytes)
      #expect(try #require(try await hosts.wireBytes()) > UInt64(bytes.count))
      await hosts.remove()
      folder.remove()
    }
  }

  /// What others send is counted by itself.
  @Test(.enabled(if: isRoot, "skipped: network namespaces need root"))
  func othersUseTheLink() async throws {
    try await withBase { base in
      let folder = try await RunFolder.create(base: base)
      let hosts = try await HostPair.create(
        kind: .namespaces, linkRate: ByteRate(parsing: "500Mbit"), folder: folder)
      let others = try #require(
        try await CompetingTraffic.start(hosts, ByteRate(parsing: "80Mbit")))
      let meter = try await WireMeter.start(hosts, others)
      // Long enough that a burst doesn't count, and until something got through.
      var reading: WireMeter.Reading
      let until = MonotonicClock.nowMs + 30_000
      repeat {
        try await Task.sleep(for: .milliseconds(500))
        reading = try await meter.read()
      } while reading.competingBytesPerSecond == 0 && MonotonicClock.nowMs < until
      others.stop()
      let rate = try #require(reading.competingBytesPerSecond)
      // Never more than asked for, but for the burst.
      #expect(rate > 0 && rate < 20_000_000)
      let left = try #require(reading.bytes)
      #expect(left < rate)
      #expect(try await WireMeter.start(hosts, nil).read().competingBytesPerSecond == nil)
      await hosts.remove()
      folder.remove()
    }
  }

  @Test(.enabled(if: isRoot, "skipped: network namespaces need root"))
  func aDeadRunsHostsAndProcessesAreRemoved() async throws {
    try await withBase { base in
      let dead = try await RunFolder.create(base: base)
      let hosts = try await HostPair.create(kind: .namespaces, linkRate: nil, folder: dead)
      let (command, arguments) = hosts.command(on: .source, "sleep", ["600"])
      let inside = try ChildProcess(command, arguments)
      // It enters by itself; one that comes too late finds no namespace, and isn't killed.
      while inside.exit == nil,
        try await !hosts.namespace(.source).processes().contains(inside.pid)
      {
        try await Task.sleep(for: .milliseconds(5))
      }
      let outside = try ChildProcess("sleep", ["600"])
      try dead.note(process: outside.pid)
      let stranger = try ChildProcess("sleep", ["600"])
      dead.abandon()

      // Looked for again: a process that is just being started may hold a copy of the lock.
      let until = MonotonicClock.nowMs + 60_000
      while SmallFile.exists(dead.path), MonotonicClock.nowMs < until {
        await Leftovers.remove(base: base)
        try await Task.sleep(for: .milliseconds(20))
      }
      #expect(!SmallFile.exists(dead.path))
      #expect(await inside.wait() == .signal(SIGKILL))
      #expect(await outside.wait() == .signal(SIGKILL))
      try await Task.sleep(for: .milliseconds(100))
      #expect(stranger.exit == nil)
      #expect(try await NetworkNamespace.all().allSatisfy { !$0.name.hasPrefix(dead.prefix) })
      await inside.terminate()
      await outside.terminate()
      await stranger.terminate()
    }
  }

  @Test func aLiveRunIsLeftAlone() async throws {
    try await withBase { base in
      let first = try await RunFolder.create(base: base)
      let child = try ChildProcess("sleep", ["600"])
      try first.note(process: child.pid)
      let second = try await RunFolder.create(base: base)
      #expect(second.path != first.path && second.prefix != first.prefix)
      #expect(SmallFile.exists(first.path) && child.exit == nil)
      await child.terminate()
      first.remove()
      second.remove()
    }
  }

  @Test func someoneElsesFolderIsRefused() async throws {
    try await withBase { base in
      try FileManager.default.createDirectory(
        atPath: base, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o777])
      chmod(base, 0o777)
      await #expect(throws: LabError.self) { try await RunFolder.create(base: base) }
    }
  }

  @Test func cacheFolder() {
    #expect(CacheFolder(environment: ["GODWIT_CACHE": "/c", "HOME": "/h"]).path == "/c")
    #expect(CacheFolder(environment: ["XDG_CACHE_HOME": "/x", "HOME": "/h"]).path == "/x/godwit")
    #expect(
      CacheFolder(environment: ["HOME": "/h", "GODWIT_CACHE": ""]).path == "/h/.cache/godwit")
    #expect(CacheFolder.key(["a", "b"]) != CacheFolder.key(["ab"]))
    #expect(CacheFolder.key([]).count == 16)
  }

  @Test func aFileIsMadeOnceAndOnlyWhole() async throws {
    try await withBase { base in
      let cache = CacheFolder(path: base)
      struct Broken: Error {}
      await #expect(throws: Broken.self) {
        _ = try await cache.file(kind: "k", key: "1", name: "f") { partial in
          try SmallFile.write([1], to: partial)
          throw Broken()
        }
      }
      #expect(!SmallFile.exists("\(base)/k/1/f"))
      for value: UInt8 in [2, 3] {
        let path = try await cache.file(kind: "k", key: "1", name: "f") {
          try SmallFile.write([value], to: $0)
        }
        #expect(try SmallFile.readBytes(path, bytesMax: 10) == [2])
      }
    }
  }
}
