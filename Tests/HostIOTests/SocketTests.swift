import Base
import Glibc
import HostIO
import Testing

@Suite struct SocketTests {
  @Test func bytesPassThroughTCP() throws {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let writer = WorkerThread("writer") {
      guard let socket = try? TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 5000)
      else { return }
      let bytes = [UInt8](repeating: 7, count: 100_000)
      try? socket.writeAll(bytes.span.bytes)
    }
    let accepted = try #require(try listener.accept(timeoutMs: 5000))
    let buffer = PageBuffer(byteCount: 100_000)
    let complete = try accepted.readFully(into: buffer.part(0, 100_000))
    #expect(complete)
    #expect(buffer.part(0, 100_000).allSatisfy { $0 == 7 })
    let more = try accepted.readFully(into: buffer.part(0, 1))
    #expect(!more)
    writer.join()
  }

  /// Each read goes on, and all of them together come to an end.
  @Test(.timeLimit(.minutes(1))) func aDeadlineBoundsAllReads() throws {
    let path = "/tmp/godwit-test-\(getpid())-\(UInt64.random(in: 0..<UInt64.max)).sock"
    let listener = try UnixSocket.listen(path: path)
    let client = try UnixSocket.connect(path: path)
    let server = try #require(try listener.accept(timeoutMs: 5000))
    let dripping = WorkerThread("drip") {
      while (try? server.writeAll([1].span.bytes)) != nil { MonotonicClock.sleep(us: 20_000) }
    }
    let bounded = BoundedConnection(client, by: Deadline("the handshake", ms: 300))
    let buffer = PageBuffer(byteCount: 100_000)
    let error = #expect(throws: SystemError.self) {
      try bounded.readFully(into: buffer.part(0, 100_000))
    }
    #expect(error?.code == ETIMEDOUT)
    let late = #expect(throws: SystemError.self) { try bounded.writeAll([1].span.bytes) }
    #expect(late?.operation == "the handshake with \(client.peer)")
    // Whoever goes on with the connection isn't bound by it.
    client.setTimeout(ms: 0)
    #expect(try client.readFully(into: buffer.part(0, 1)))
    client.shutdown()
    dripping.join()
  }

  /// What was written and nobody has read is little where it is to be, and as much as ever afterwards.
  @Test func whatIsUnreadIsBounded() throws {
    let path = "/tmp/godwit-test-\(getpid())-\(UInt64.random(in: 0..<UInt64.max)).sock"
    let listener = try UnixSocket.listen(path: path)
    let client = try UnixSocket.connect(path: path)
    let server = try #require(try listener.accept(timeoutMs: 5000))
    client.setTimeout(ms: 100)
    let (bytes, buffer) = ([UInt8](repeating: 1, count: 1 << 20), PageBuffer(byteCount: 1 << 20))
    var unread: [Int] = []
    for limit in [32 << 10, 208 << 10] {
      client.setUnread(bytes: limit)
      // It waits for a reader, and gives up.
      #expect(throws: SystemError.self) { try client.writeAll(bytes.span.bytes) }
      var count = 0
      while let more = try server.readArrived(into: buffer.part(0, buffer.byteCount)) {
        count += more
      }
      unread.append(count)
    }
    #expect((1...48 << 10).contains(unread[0]) && unread[1] > 2 * unread[0], "\(unread)")
  }

  @Test func shutdownWakesABlockedReader() throws {
    let path = "/tmp/godwit-test-\(getpid())-\(UInt64.random(in: 0..<UInt64.max)).sock"
    let listener = try UnixSocket.listen(path: path)
    let client = try UnixSocket.connect(path: path)
    let server = try #require(try listener.accept(timeoutMs: 5000))
    let reader = WorkerThread("reader") {
      let buffer = PageBuffer(byteCount: 16)
      let count = try? client.read(into: buffer.part(0, 16))
      #expect(count == 0)
    }
    client.shutdown()
    reader.join()
    _ = server
  }

  /// What was written and the other end's system had no room for never gets there.
  @Test(.timeLimit(.minutes(1)), arguments: [true, false])
  func whatIsAbortedStaysBehind(isAborted: Bool) throws {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let client = try TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 5000)
    let server = try #require(try listener.accept(timeoutMs: 5000))
    let piece = [UInt8](repeating: 1, count: 1 << 16)
    var sent = 0
    // Until neither side has room for more, which doesn't change when it is asked once more.
    for _ in 0..<2 {
      while true {
        let count = piece.withUnsafeBytes {
          send(client.raw, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
        }
        if count <= 0 { break }
        sent += count
      }
    }
    if isAborted { client.abort() } else { client.shutdown() }
    let buffer = PageBuffer(byteCount: 1 << 16)
    var (received, code): (Int, Int32) = (0, 0)
    do throws(SystemError) {
      while true {
        let count = try server.read(into: buffer.part(0, buffer.byteCount))
        if count == 0 { break }
        received += count
      }
    } catch { code = error.code }
    #expect(isAborted ? received < sent && code == ECONNRESET : received == sent && code == 0)
    // It can be done again, and nothing comes of calls behind it.
    client.abort()
    #expect(throws: SystemError.self) { try client.writeAll(piece.span.bytes) }
  }

  @Test func refusalsNameTheirTarget() {
    #expect { try UnixSocket.connect(path: "/nonexistent/socket") } throws: {
      "\($0)".contains("connect to /nonexistent/socket: No such file")
    }
    #expect { try UnixSocket.connect(path: String(repeating: "x", count: 200)) } throws: {
      ($0 as? SystemError)?.code == ENAMETOOLONG
    }
  }

  @Test(
    arguments: [
      ("host", "host", 4750), ("host:1", "host", 1), ("[::1]", "::1", 4750), ("[::1]:9", "::1", 9),
      ("fe80::1", "fe80::1", 4750),
    ] as [(String, String, UInt16)])
  func addressesSplit(text: String, host: String, port: UInt16) throws {
    let parts = try #require(TCPSocket.split(text, defaultPort: 4750))
    #expect(parts.host == host && parts.port == port)
  }

  @Test(arguments: ["", "host:", "host:99999", "[::1", "[::1]x", ":5"])
  func addressesRefused(text: String) { #expect(TCPSocket.split(text, defaultPort: 1) == nil) }
}

@Suite struct GuardedTests {
  @Test func waitersSeeUpdates() {
    let value = Guarded(0)
    let thread = WorkerThread("adder") { for _ in 0..<1000 { value.update { $0 += 1 } } }
    let seen = value.wait(timeoutMs: 10_000) { $0 == 1000 ? $0 : nil }
    #expect(seen == 1000)
    thread.join()
    let never = value.wait(timeoutMs: 20) { $0 == 5 ? $0 : nil }
    #expect(never == nil)
  }
}

@Suite struct SharedFileTests {
  @Test(arguments: [true, false]) func readsWhatItWrote(sealed: Bool) throws {
    let file = try MemoryFile(byteCount: 1 << 20, sealed: sealed)
    let memory = try SharedFile(path: file.path, offset: 4096, length: 65536, writable: true)
    #expect(memory.isMapped == sealed)
    let buffer = PageBuffer(byteCount: 8192)
    let pattern = [UInt8](repeating: 0xA5, count: 8192)
    buffer.store(pattern.span.bytes, at: 0)
    #expect(try !memory.mayHoldData(at: 0, count: 65536))
    try memory.write(UnsafeRawBufferPointer(buffer.part(0, 8192)), at: 4096)
    #expect(try memory.mayHoldData(at: 4096, count: 4096))
    let back = PageBuffer(byteCount: 8192)
    try memory.read(at: 4096, into: back.part(0, 8192))
    #expect(back.part(0, 8192).elementsEqual(pattern))
    try memory.writeZeros(at: 0, count: 65536)
    try memory.read(at: 4096, into: back.part(0, 8192))
    #expect(back.part(0, 8192).allSatisfy { $0 == 0 })
  }

  @Test func outsideTheBlockIsRefused() throws {
    let file = try MemoryFile(byteCount: 1 << 20, sealed: true)
    #expect(throws: SystemError.self) {
      try SharedFile(path: file.path, offset: 1 << 20, length: 4096, writable: true)
    }
    let memory = try SharedFile(path: file.path, offset: 0, length: 4096, writable: true)
    let buffer = PageBuffer(byteCount: 4096)
    #expect(throws: SystemError.self) { try memory.read(at: 1, into: buffer.part(0, 4096)) }
    #expect(throws: SystemError.self) { try memory.read(at: .max, into: buffer.part(0, 1)) }
  }
}
