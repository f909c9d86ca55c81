import Foundation
import HostIO
import Synchronization
import Testing

/// A listening unix socket that serves one client on a thread of its own.
private final class Peer: Sendable {
  let path = "/tmp/godwit-test-\(UUID().uuidString.prefix(8)).sock"
  private let listener: Int32

  init(_ serve: @escaping @Sendable (_ client: Int32) -> Void) {
    listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let bound = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(bound == 0 && listen(listener, 1) == 0)
    Thread { [listener] in
      let client = accept(listener, nil, nil)
      serve(client)
      close(client)
    }.start()
  }

  deinit {
    close(listener)
    unlink(path)
  }
}

/// What a connection brought.
private final class Received: Sendable {
  struct State {
    var lines: [String] = []
    var closeReason: String?
  }
  let state = Mutex(State())

  func connect(_ path: String, lineLengthMax: Int = 100) async throws -> UnixLineTransport {
    try await UnixLineTransport.connect(
      path: path, timeoutMs: 5000, lineLengthMax: lineLengthMax,
      onLine: { line in
        self.state.withLock { $0.lines.append(String(decoding: line, as: UTF8.self)) }
      },
      onClose: { reason in self.state.withLock { $0.closeReason = reason } })
  }
}

private func put(_ text: String, _ client: Int32) {
  let bytes = Array(text.utf8)
  _ = write(client, bytes, bytes.count)
}

@Suite(.timeLimit(.minutes(1))) struct UnixLineTransportTests {
  @Test func linesComeWholeHoweverTheyAreCut() async throws {
    let text = "one\r\ntwo\n\nfour \r five\r\nunfinished"
    for part in [1, 2, 3, 7, 100] {
      let peer = Peer { client in
        var rest = text[...]
        while !rest.isEmpty {
          put(String(rest.prefix(part)), client)
          rest = rest.dropFirst(part)
          usleep(500)
        }
      }
      let received = Received()
      let transport = try await received.connect(peer.path)
      await transport.closed()
      let lines = received.state.withLock { $0.lines }
      #expect(lines == ["one", "two", "", "four \r five"], "parts of \(part) bytes")
      #expect(received.state.withLock { $0.closeReason } == "")
      #expect(!transport.send("late"))
    }
  }

  @Test func aLineThatIsTooLongEndsTheConnection() async throws {
    for ending in ["", "\n"] {
      let peer = Peer { client in
        put(String(repeating: "x", count: 100) + "\n", client)
        put(String(repeating: "y", count: 102) + ending, client)
        var byte: UInt8 = 0
        _ = read(client, &byte, 1)  // until the other side closes
      }
      let received = Received()
      let transport = try await received.connect(peer.path)
      await transport.closed()
      #expect(received.state.withLock { $0.lines.map(\.count) } == [100])
      let reason = received.state.withLock { $0.closeReason }
      #expect(reason?.contains("a line of more than 100 bytes") == true)
    }
  }

  @Test func sendsLines() async throws {
    let peer = Peer { client in
      var buffer = [UInt8](repeating: 0, count: 100)
      let count = read(client, &buffer, buffer.count)
      put(String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self).uppercased(), client)
    }
    let received = Received()
    let transport = try await received.connect(peer.path)
    #expect(transport.send("hello"))
    await transport.closed()
    #expect(received.state.withLock { $0.lines } == ["HELLO"])
  }

  @Test func aPeerThatNeverReadsIsGivenUp() async throws {
    let done = Mutex(false)
    let peer = Peer { _ in while !done.withLock({ $0 }) { usleep(1000) } }
    let transport = try await Received().connect(peer.path)
    let line = String(repeating: "z", count: 1 << 20)
    var accepted = 0
    while accepted < 64, transport.send(line) { accepted += 1 }
    #expect(accepted >= 8 && accepted < 64)
    transport.close()
    done.withLock { $0 = true }
    await transport.closed()
  }
}
