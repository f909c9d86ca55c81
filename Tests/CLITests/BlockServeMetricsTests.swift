import BlockStore
import Foundation
import Glibc
import HostIO
import Testing

@testable import Agent

/// What a monitoring system sees of `godwit block serve`.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct BlockServeMetricsTests {
  private let folder = "/tmp/godwit-metrics-\(UUID().uuidString.prefix(8))"
  private var socket: String { folder + "/a.sock" }
  private var target: String { folder + "/b.sock" }

  init() throws {
    try PrivateDirectory.make(folder)
    for name in ["disk.raw", "copy.raw"] {
      try Data(count: 1 << 20).write(to: URL(filePath: "\(folder)/\(name)"))
    }
  }

  /// Starts a server; returns it with the port of its metrics.
  private func serve(
    _ image: String, at socket: String, _ more: [String] = []
  ) async throws -> (ChildProcess, port: UInt16?) {
    let path = socket + ".out"
    let output = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    defer { close(output) }
    let child = try ChildProcess(
      try #require(CommandProcess.binary),
      ["block", "serve", "\(folder)/\(image)", "--socket", socket, "--export-name", "x", "--json"]
        + more, output: output)
    while true {
      let text = try String(contentsOfFile: path, encoding: .utf8)
      if text.contains("\n"), let line = text.split(separator: "\n").first {
        let start = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        return (child, (start?["metricsPort"] as? Int).flatMap { UInt16(exactly: $0) })
      }
      try #require(child.exit == nil)
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  private func get(_ path: String, _ port: UInt16) async throws -> String {
    try await WorkerThread.run("scrape") {
      let socket = try TCPSocket.connect(host: "127.0.0.1", port: port, timeoutMs: 10_000)
      socket.setTimeout(ms: 20_000)
      try socket.writeAll(Array("GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n".utf8).span.bytes)
      var (text, chunk) = ([UInt8](), [UInt8](repeating: 0, count: 4096))
      while true {
        let count = try chunk.withUnsafeMutableBytes { try socket.read(into: $0) }
        if count == 0 { return String(decoding: text, as: UTF8.self) }
        text += chunk[..<count]
      }
    }
  }

  @Test(.timeLimit(.minutes(4))) func theyAreScraped() async throws {
    let (there, none) = try await serve("copy.raw", at: target)
    #expect(none == nil)
    let (server, found) = try await serve(
      "disk.raw", at: socket, ["--metrics", "127.0.0.1:0", "--connections", "5"])
    let port = try #require(found)
    #expect(try await get("/healthz", port).hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(try await get("/readyz", port).hasSuffix("\r\n\r\nready\n"))
    #expect(try await get("/other", port).hasPrefix("HTTP/1.1 404"))
    let before = try await get("/metrics", port)
    #expect(before.contains("text/plain; version=0.0.4"))
    #expect(before.contains("\ngodwit_block_requests_total{export=\"x\",request=\"write\"} 0\n"))
    #expect(!before.contains("godwit_block_move_phase{"))

    let client = try await WorkerThread.run("use") { [socket] in
      let client = try RemoteStore(
        over: UnixSocket.connect(path: socket), exportName: "x", isReadOnly: false)
      var bytes = [UInt8](repeating: 5, count: 8192)
      try bytes.withUnsafeBytes { try client.write($0, at: 4096, durable: false) }
      try client.flush()
      try bytes.withUnsafeMutableBytes { try client.read(at: 0, into: $0) }
      // Beyond the end.
      #expect(throws: StoreError.self) {
        try bytes.withUnsafeMutableBytes { try client.read(at: 1 << 20, into: $0) }
      }
      return client
    }
    let move = ["block", "move", "x", "nbd+unix:///x?socket=\(target)", "--then", "copy"]
    #expect(try await CommandProcess(move + ["--socket", socket]).end().status == 0)
    let text = try await get("/metrics", port)
    for line in [
      "connections 1", "connections_max 5", "size_bytes{export=\"x\"} 1048576",
      "read_only{export=\"x\"} 0",
      "requests_total{export=\"x\",request=\"write\"} 1",
      "requests_total{export=\"x\",request=\"flush\"} 1",
      "requests_total{export=\"x\",request=\"read\"} 1",
      "request_bytes_total{export=\"x\",request=\"read\"} 8192",
      "request_bytes_total{export=\"x\",request=\"write\"} 8192",
      "request_errors_total{export=\"x\",request=\"refused\",error=\"EINVAL\"} 1",
      "move_phase{export=\"x\",phase=\"copied\"} 1",
      "move_phase{export=\"x\",phase=\"copying\"} 0", "move_problem{export=\"x\"} 0",
      "move_remaining_bytes{export=\"x\"} 0",
    ] {
      #expect(text.contains("\ngodwit_block_\(line)\n"), "\(line) in \(text)")
    }
    client.close()
    await server.stop()
    #expect(server.exit == .code(0))
    await there.stop()
    try FileManager.default.removeItem(atPath: folder)
  }

  /// A port that somebody else has, or no address, is told before anybody is served.
  @Test(.timeLimit(.minutes(4))) func whatCantBeListenedOnIsSaid() async throws {
    let (server, found) = try await serve("disk.raw", at: socket, ["--metrics", "127.0.0.1:0"])
    let port = try #require(found)
    for (address, status) in [("127.0.0.1:\(port)", 1), ("127.0.0.1:99999", 2)] as [(String, Int32)]
    {
      let end = try await CommandProcess(
        [
          "block", "serve", folder + "/copy.raw", "--socket", folder + "/c.sock", "--metrics",
          address,
        ]
      ).end()
      #expect(end.status == status, "\(address)")
      #expect(!FileManager.default.fileExists(atPath: folder + "/c.sock"))
    }
    await server.stop()
    try FileManager.default.removeItem(atPath: folder)
  }
}
