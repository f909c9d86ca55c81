import Base
import Foundation
import HostIO
import Synchronization
import Testing

@testable import PKI

/// Two ends of a TLS connection over loopback.
struct TLSPair: Sendable {
  let client, server: TLSConnection

  static func sockets() throws -> (client: StreamSocket, server: StreamSocket) {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    let client = try TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 10_000)
    return (client, TCPSocket.tuned(try #require(try listener.accept(timeoutMs: 10_000))))
  }

  static func open() async throws -> TLSPair {
    let authority = try Authority.create(name: "Test")
    let (near, far) = try sockets()
    let (own, other) = (try authority.credentials(.client), try authority.credentials(.server))
    async let server = onThread { try TLSConnection(over: far, other, timeoutMs: 60_000) }
    let client = try await onThread { try TLSConnection(over: near, own, timeoutMs: 60_000) }
    return TLSPair(client: client, server: try await server)
  }
}

@Suite(.timeLimit(.minutes(4))) struct TLSConnectionTests {
  private static let total = 16 << 20

  private static func byte(_ position: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: position &* 31 &+ position >> 13)
  }

  /// Writes `total` bytes of the pattern in parts, as frames do.
  private static func send(over connection: TLSConnection) throws {
    var position = 0
    while position < total {
      var head = (position..<position + 12).map(byte)
      var body = (position + 12..<min(position + 500_000, total)).map(byte)
      try head.withUnsafeMutableBytes { head in
        try body.withUnsafeMutableBytes { body in
          var parts = [
            iovec(iov_base: head.baseAddress, iov_len: head.count), iovec(),
            iovec(iov_base: body.baseAddress, iov_len: body.count),
          ]
          try connection.writeAll(&parts)
        }
      }
      position += 12 + body.count
    }
  }

  /// - Parameter pauseEvery: bytes after which the reader rests, so that the sender has to wait.
  private static func receive(_ connection: TLSConnection, pauseEvery: Int) throws -> Int {
    var (position, rest) = (0, pauseEvery)
    var buffer = [UInt8](repeating: 0, count: 300_001)
    while position < total {
      let count = try buffer.withUnsafeMutableBytes { try connection.read(into: $0) }
      guard count > 0 else { return position }
      for index in 0..<count where buffer[index] != byte(position + index) { return -1 }
      position += count
      rest -= count
      if rest <= 0 {
        MonotonicClock.sleep(us: 2000)
        rest = pauseEvery
      }
    }
    return position
  }

  @Test func bulkBothWays() async throws {
    let pair = try await TLSPair.open()
    #expect(pair.client.peerCertificates.count == 1 && pair.server.peerCertificates.count == 1)
    async let there: Void = onThread { try Self.send(over: pair.client) }
    async let back: Void = onThread { try Self.send(over: pair.server) }
    async let atServer = onThread { try Self.receive(pair.server, pauseEvery: 1 << 20) }
    async let atClient = onThread { try Self.receive(pair.client, pauseEvery: 8 << 20) }
    #expect(try await atServer == Self.total)
    #expect(try await atClient == Self.total)
    _ = try await (there, back)
    pair.client.finish()
    pair.server.shutdown()
  }

  /// A reader that takes nothing: the writer stops after what may be on its way.
  @Test func writersWaitForSlowReaders() async throws {
    let pair = try await TLSPair.open()
    let written = Atomic(0)
    pair.client.setTimeout(ms: 1000)
    await #expect {
      try await onThread {
        let piece = [UInt8](repeating: 7, count: 64 << 10)
        while written.load(ordering: .relaxed) < 1 << 30 {
          try pair.client.writeAll(piece.span.bytes)
          written.add(piece.count, ordering: .relaxed)
        }
      }
    } throws: { ($0 as? SystemError)?.code == ETIMEDOUT }
    // Both kernels' buffers and both queues, far below what was to be sent.
    #expect(written.load(ordering: .relaxed) < 64 << 20)
    pair.client.shutdown()
    pair.server.shutdown()
  }

  @Test func shutdownWakesReaderAndWriter() async throws {
    let pair = try await TLSPair.open()
    let started = Guarded(0)
    async let read = onThread { () throws -> Int in
      started.update { $0 += 1 }
      var buffer = [UInt8](repeating: 0, count: 16)
      return try buffer.withUnsafeMutableBytes { try pair.client.read(into: $0) }
    }
    async let write = onThread { () throws -> Int32 in
      started.update { $0 += 1 }
      let piece = [UInt8](repeating: 7, count: 512 << 10)
      do throws(SystemError) { while true { try pair.client.writeAll(piece.span.bytes) } } catch {
        return error.code
      }
    }
    try await onThread {
      _ = started.wait { $0 == 2 ? true : nil }
      MonotonicClock.sleep(us: 100_000)
      pair.client.shutdown()
    }
    #expect(try await read == 0)
    #expect(try await write == EPIPE)
    pair.server.shutdown()
  }

  @Test func whatWasWrittenArrivesBeforeTheEnd() async throws {
    let pair = try await TLSPair.open()
    let bytes = [UInt8](repeating: 5, count: 900_000)
    async let got = onThread { () throws -> Int in
      var buffer = [UInt8](repeating: 0, count: 65_536)
      var total = 0
      while true {
        let count = try buffer.withUnsafeMutableBytes { try pair.server.read(into: $0) }
        if count == 0 { return total }
        total += count
      }
    }
    try await onThread {
      try pair.client.writeAll(bytes.span.bytes)
      pair.client.shutdown()
    }
    #expect(try await got == bytes.count)
    let server = pair.server
    await #expect(throws: SystemError.self) {
      try await onThread { while true { try server.writeAll(bytes.span.bytes) } }
    }
  }

  @Test func silenceTimesOut() async throws {
    let pair = try await TLSPair.open()
    pair.client.setTimeout(ms: 50)
    await #expect {
      try await onThread {
        var buffer = [UInt8](repeating: 0, count: 16)
        _ = try buffer.withUnsafeMutableBytes { try pair.client.read(into: $0) }
      }
    } throws: { ($0 as? SystemError)?.code == ETIMEDOUT }
    pair.client.shutdown()
    pair.server.shutdown()
  }

  /// A cut that TLS did not announce is an error, never a clean end.
  @Test func aCutConnectionIsNoEnd() async throws {
    let authority = try Authority.create(name: "Test")
    let (near, far) = try TLSPair.sockets()
    let (own, other) = (try authority.credentials(.client), try authority.credentials(.server))
    async let server = onThread { try TLSConnection(over: far, other, timeoutMs: 60_000) }
    let client = try await onThread { try TLSConnection(over: near, own, timeoutMs: 60_000) }
    _ = try await server
    far.shutdown()
    await #expect(throws: SystemError.self) {
      try await onThread {
        var buffer = [UInt8](repeating: 0, count: 16)
        _ = try buffer.withUnsafeMutableBytes { try client.read(into: $0) }
      }
    }
  }

  @Test(arguments: ["GWT1 this is no TLS", "HTTP/1.1 400 Bad Request\r\n\r\n"])
  func plainPeersAreNamed(answer: String) async throws {
    let credentials = try Authority.create(name: "Test").credentials(.client)
    let (near, far) = try TLSPair.sockets()
    try far.writeAll(Array(answer.utf8).span.bytes)
    await #expect {
      try await onThread { _ = try TLSConnection(over: near, credentials, timeoutMs: 60_000) }
    } throws: { ($0 as? TLSError)?.code == .plainPeer }
    far.shutdown()
  }

  @Test func aSilentOrClosedPeerEndsTheHandshake() async throws {
    let credentials = try Authority.create(name: "Test").credentials(.server)
    let (near, far) = try TLSPair.sockets()
    await #expect {
      try await onThread { _ = try TLSConnection(over: far, credentials, timeoutMs: 100) }
    } throws: { ($0 as? TLSError)?.code == .silent }
    near.shutdown()
    let (other, another) = try TLSPair.sockets()
    other.shutdown()
    await #expect {
      try await onThread { _ = try TLSConnection(over: another, credentials, timeoutMs: 60_000) }
    } throws: { ($0 as? TLSError)?.code == .ended }
  }
}
