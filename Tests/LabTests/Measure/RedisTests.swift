import HostIO
import Testing

@testable import Lab

@Suite struct RedisTests {
  @Test func aRequestIsAnArrayOfCountedTexts() {
    let request = RedisConnection.request([Array("SET".utf8), Array("k".utf8), [0, 13, 10]])
    #expect(request == Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\0\r\n\r\n".utf8))
  }

  /// A server that gives these bytes as its only answer.
  private func answer<Value: Sendable>(
    _ text: String, _ body: @escaping @Sendable (RedisConnection) throws -> Value
  ) async throws -> Value {
    let listener = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    let port = try #require(TCPSocket.localPort(of: listener))
    _ = WorkerThread("answer") {
      guard let peer = try? listener.accept() else { return }
      var chunk = [UInt8](repeating: 0, count: 4096)
      _ = try? chunk.withUnsafeMutableBytes { try peer.read(into: $0) }
      try? peer.writeAll(Array(text.utf8).span.bytes)
    }
    return try await WorkerThread.run("client") {
      try body(
        RedisConnection(
          try StoreStream(address: "127.0.0.1", port: port, timeoutMs: 60_000)))
    }
  }

  @Test func valuesAndMissingOnes() async throws {
    let found = try await answer("*3\r\n$2\r\n\r\n\r\n$-1\r\n$0\r\n\r\n") {
      try $0.get(["a", "b", "c"])
    }
    #expect(found == ["a": [13, 10], "c": []])
  }

  @Test(arguments: [
    "*2\r\n", "$1\r\nx\r\n", "*1\r\n$x\r\n", "*1\r\n$99999999\r\n", "*1\r\n$1\r\nxy\r\n",
    "*1\r\n$-2\r\n", "-ERR no\r\n", "*1\r\n$5\r\nab",
  ])
  func whatDoesNotFitIsABrokenConnection(text: String) async {
    await #expect(throws: StoreStream.Failure.self) { try await answer(text) { try $0.get(["a"]) } }
  }

  @Test func aRefusalToStoreIsSaid() async throws {
    try await answer("+OK\r\n+OK\r\n") { try $0.set([("a", [1]), ("b", [2])]) }
    await #expect(throws: StoreStream.Failure.unexpected("-OOM full")) {
      try await answer("+OK\r\n-OOM full\r\n") { try $0.set([("a", [1]), ("b", [2])]) }
    }
  }
}
