import Base
import BlockStore
import Foundation
import Glibc
import HostIO
import NBD
import Testing

/// The server with a client of our own.
@Suite struct ServerTests {
  let folder = try! ScratchFolder()

  /// Many threads on several connections, each in a part of its own: everything reads back, while
  /// zeros and trims go on.
  @Test(.timeLimit(.minutes(1)), arguments: [true, false])
  func manyAtOnce(isPrompt: Bool) async throws {
    let store = VolatileStore(byteCount: 8 << 20, isPrompt: isPrompt)
    let running = try RunningServer(store)
    let clients = try await WorkerThread.run("connect") {
      [try running.connect(), try running.connect()]
    }
    try await withThrowingTaskGroup { group in
      for part in 0..<8 {
        group.addTask {
          try await WorkerThread.run("client-\(part)") {
            var random = SplitMix64(seed: UInt64(part) + 1)
            let base = UInt64(part) << 20
            var mine = [UInt8](repeating: 0, count: 1 << 20)
            for step in 0..<25 {
              let client = clients[step % 2]
              let start = Int(random.next() % (1 << 20))
              let count = min((1 << 20) - start, Int(random.next() % 200_000) + 1)
              if random.next() % 5 == 0 {
                try client.zero(at: base + UInt64(start), count: UInt64(count), [])
                mine.replaceSubrange(
                  start..<(start + count), with: repeatElement(0, count: count))
              } else {
                let value = UInt8(truncatingIfNeeded: random.next())
                let bytes = (0..<count).map { value &+ UInt8(truncatingIfNeeded: $0 / 512) }
                try client.put(bytes, at: base + UInt64(start))
                mine.replaceSubrange(start..<(start + count), with: bytes)
              }
              let from = Int(random.next() % (1 << 20))
              let length = min((1 << 20) - from, Int(random.next() % 300_000) + 1)
              let read = try clients[(step + 1) % 2].bytes(at: base + UInt64(from), count: length)
              guard read == Array(mine[from..<(from + length)]) else {
                Issue.record("part \(part), step \(step): other bytes than were written")
                return
              }
            }
          }
        }
      }
      try await group.waitForAll()
    }
    clients.forEach { $0.close() }
  }

  @Test(.timeLimit(.minutes(1))) func theLargestRequests() async throws {
    let store = try FileStore(path: try folder.image(byteCount: 64 << 20))
    let running = try RunningServer(store)
    try await WorkerThread.run("test") {
      let client = try running.connect()
      defer { client.close() }
      let pattern = (0..<(32 << 20)).map { UInt8(truncatingIfNeeded: $0 >> 12 &* 37) }
      try client.put(pattern, at: 1 << 20)
      #expect(try client.bytes(at: 1 << 20, count: 32 << 20) == pattern)
      // More than the server takes in one request goes in parts.
      let more = Array(pattern.reversed()) + [7, 8, 9]
      try client.put(more, at: 4096)
      #expect(try client.bytes(at: 4096, count: more.count) == more)
    }
  }

  @Test(.timeLimit(.minutes(1))) func drainAnswersWhatHasArrivedAndFlushes() async throws {
    let store = VolatileStore(byteCount: 1 << 20, isPrompt: true)
    let running = try RunningServer(store)
    let survived = try await WorkerThread.run("test") {
      let client = try running.connect()
      try client.put([UInt8](repeating: 4, count: 4096), at: 0)
      #expect(running.server.drain(timeoutMs: 5000).isEmpty)
      #expect(throws: StoreError.self) { try client.bytes(at: 0, count: 1) }
      #expect(running.server.connectionCount == 0)
      var random = SplitMix64(seed: 1)
      return store.failPower(&random)
    }
    #expect(survived[..<4096].allSatisfy { $0 == 4 })
  }

  @Test(.timeLimit(.minutes(1))) func noMoreConnectionsThanAllowed() async throws {
    var options = DiskServer.Options()
    options.connectionsMax = 1
    let store = VolatileStore(byteCount: 4096, isPrompt: true)
    let running = try RunningServer([ServedDisk(name: "disk", store: store)], options)
    try await WorkerThread.run("test") {
      let client = try running.connect()
      #expect(throws: (any Error).self) { try running.connect() }
      client.close()
      while running.server.connectionCount > 0 { MonotonicClock.sleep(us: 1000) }
      try running.connect().close()
    }
  }

  /// A client whose host is gone sends nothing more, no end either: only the kernel's questions find that out.
  @Test(.timeLimit(.minutes(1))) func clientsThatAreGoneAreNoticed() async throws {
    let store = VolatileStore(byteCount: 4096, isPrompt: true)
    let server = DiskServer([ServedDisk(name: "disk", store: store)])
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let options = Guarded<[Int32]?>(nil)
    // Where TLS would begin the accepted socket can be looked at.
    server.serve(listener) { socket in
      let tcp = Int32(IPPROTO_TCP)
      let found = [
        Self.option(socket, SOL_SOCKET, SO_KEEPALIVE), Self.option(socket, tcp, TCP_KEEPIDLE),
        Self.option(socket, tcp, TCP_KEEPINTVL), Self.option(socket, tcp, TCP_KEEPCNT),
      ]
      options.update { $0 = found }
      return socket
    }
    try await WorkerThread.run("test") {
      let client = try RemoteStore(
        over: TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 5000),
        exportName: "disk", isReadOnly: false, secure: { $0 })
      client.close()
      let found = options.read { $0 } ?? []
      // On, and given up within half a minute.
      #expect(found.count == 4 && found[0] == 1)
      #expect(found.count == 4 && found[1] + found[2] * found[3] <= 30, "\(found)")
      _ = server.drain(timeoutMs: 5000)
    }
  }

  private static func option(_ socket: StreamSocket, _ level: Int32, _ name: Int32) -> Int32 {
    var (value, size): (Int32, socklen_t) = (-1, socklen_t(MemoryLayout<Int32>.size))
    _ = getsockopt(socket.raw, level, name, &value, &size)
    return value
  }

  /// Bytes that are no protocol, at every stage: the server closes, and serves the next one.
  @Test(.timeLimit(.minutes(1))) func noiseHarmsNobodyElse() async throws {
    let store = VolatileStore(byteCount: 1 << 16, isPrompt: true)
    let running = try RunningServer(store)
    try await WorkerThread.run("test") {
      var random = SplitMix64(seed: 3)
      // Client flags, GO for the export without any information asked for.
      var prefix: [UInt8] = [0, 0, 0, 3] + Array("IHAVEOPT".utf8)
      prefix += [0, 0, 0, 7, 0, 0, 0, 10, 0, 0, 0, 4] + Array("disk".utf8) + [0, 0]
      for round in 0..<60 {
        let socket = try UnixSocket.connect(path: running.socket)
        let noise = random.bytes(Int(random.next() % 400))
        let magic: [UInt8] = round % 3 == 2 ? [0x25, 0x60, 0x95, 0x13] : []
        let bytes = (round % 3 == 0 ? [] : prefix) + magic + noise
        try? socket.writeAll(bytes.span.bytes)
        socket.shutdown()
      }
      let client = try running.connect()
      defer { client.close() }
      #expect(try client.bytes(at: 0, count: 10) == [UInt8](repeating: 0, count: 10))
    }
  }

  @Test(.timeLimit(.minutes(1))) func aBrokenServerFailsItsCallers() async throws {
    let store = VolatileStore(byteCount: 1 << 16, isPrompt: true)
    let running = try RunningServer(store)
    try await WorkerThread.run("test") {
      let client = try running.connect()
      client.close()
      #expect(throws: StoreError.self) { try client.bytes(at: 0, count: 512) }
      #expect(throws: StoreError.self) { try client.flush() }
    }
  }
}
