import Base
import BlockStore
import Foundation
import Glibc
import HostIO
import Testing

@testable import Agent

/// `godwit block pull` as it is run: a source, a server that pulls, clients of others, and kill -9.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct BlockPullTests {
  static let byteCount = 24 << 20
  private static let content = randomImage(byteCount: byteCount, seed: 11)
  private let folder = "/tmp/godwit-pull-\(UUID().uuidString.prefix(8))"
  private var image: String { folder + "/source.raw" }
  private var copy: String { folder + "/copy.raw" }
  private var socket: String { folder + "/b.sock" }
  private var origin: String { folder + "/a.sock" }
  private var uri: String { "nbd+unix:///x?socket=\(origin)" }
  private var here: String { "nbd+unix:///x?socket=\(socket)" }

  init() throws {
    try PrivateDirectory.make(folder)
    try Self.content.write(to: URL(filePath: image))
    try empty(copy)
  }

  private func empty(_ path: String) throws {
    try Data().write(to: URL(filePath: path))
    truncate(path, off_t(Self.byteCount))
  }

  private func serve(
    _ image: String, at socket: String, _ more: [String] = []
  ) async throws -> ChildProcess {
    let binary = try #require(CommandProcess.binary)
    let child = try ChildProcess(
      binary, ["block", "serve", image, "--socket", socket, "--export-name", "x"] + more)
    for path in [socket, socket + ".control"] {
      while (try? UnixSocket.connect(path: path)) == nil {
        guard child.exit == nil else { throw SystemError("serve \(image)", code: ECHILD) }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    return child
  }

  private func source() async throws -> ChildProcess {
    try await serve(image, at: origin, ["--read-only"])
  }

  private func block(_ arguments: [String]) async throws -> (status: Int32, output: String) {
    try await CommandProcess(["block"] + arguments + ["--socket", socket]).end()
  }

  private func fields(_ output: String) throws -> [String: Any] {
    let line = try #require(output.split(separator: "\n").last)
    let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
    return try #require(object as? [String: Any])
  }

  private func status() async throws -> [String: Any] {
    try fields(try await block(["status", "x", "--json"]).output)
  }

  private func untilDone() async throws {
    while try await status()["phase"] as? String != "done" {
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// The pull goes on by itself.
  private func untilMoreIsFetched() async throws {
    func fetched() async throws -> Int { try #require(try await status()["fetchedBytes"] as? Int) }
    let before = try await fetched()
    while try await fetched() <= before { try await Task.sleep(for: .milliseconds(50)) }
  }

  @Test(.timeLimit(.minutes(4))) func theDiskIsHereAfterwards() async throws {
    let (there, here) = (try await source(), try await serve(copy, at: socket))
    let pulled = try await block(["pull", "x", uri, "--json"])
    let end = try fields(pulled.output)
    #expect(pulled.status == 0 && end["phase"] as? String == "done", "\(pulled)")
    #expect(end["missingBytes"] as? Int == 0 && end["fetchedBytes"] as? Int == Self.byteCount)
    #expect(!FileManager.default.fileExists(atPath: copy + ".godwit-pull"))
    // It isn't needed any more.
    await there.stop()
    try await Command.run("qemu-io", ["-f", "raw", "-c", "read 0 24M", self.here])
    await here.stop()
    #expect(here.exit == .code(0))
    try await Command.run("cmp", [image, copy])
    try FileManager.default.removeItem(atPath: folder)
  }

  /// Others' clients on a disk of which nothing is here yet.
  @Test(.timeLimit(.minutes(4)), arguments: ["godwit", "qemu-nbd"])
  func clientsOfOthers(source kind: String) async throws {
    let there: ChildProcess
    if kind == "godwit" {
      there = try await source()
    } else {
      there = try ChildProcess(
        "qemu-nbd",
        ["--format", "raw", "--read-only", "--persistent", "-x", "x", "-k", origin, image])
      while (try? UnixSocket.connect(path: origin)) == nil {
        guard there.exit == nil else { throw SystemError("serve \(image)", code: ECHILD) }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    let server = try await serve(copy, at: socket)
    let begun = try await block(["pull", "x", uri, "--bandwidth", "256KiB/s", "--detach", "--json"])
    #expect(begun.status == 0, "\(begun)")
    let result = try await Command.execute(
      "qemu-io",
      [
        "-f", "raw", "-c", "write -P 0xab 4M 1M", "-c", "write -P 0xcd 9000001 70001",
        "-c", "read -P 0xab 4M 1M", "-c", "read -P 0xcd 9000001 70001", "-c", "write -z 12M 1M",
        "-c", "read -P 0 12M 1M", "-c", "discard 14M 64k", "-c", "aio_read 16M 256k",
        "-c", "aio_write -P 0x11 16M 64k", "-c", "aio_flush", "-c", "read -P 0x11 16M 64k",
        "-c", "flush", here,
      ])
    #expect(result.exit.isSuccess && !result.output.contains("failed"), "\(result.output)")
    let back = folder + "/back.raw"
    try await Command.run("nbdcopy", [here, back])
    let end = try await status()
    #expect(end["faults"] as? Int ?? 0 > 0 && end["faultMeanUs"] as? Int != nil, "\(end)")
    try await untilDone()
    await server.stop()
    await there.stop()
    try await Command.run("cmp", [back, copy])
    let (old, new) = (
      try Data(contentsOf: URL(filePath: image)), try Data(contentsOf: URL(filePath: copy))
    )
    #expect(new[4 << 20..<5 << 20].allSatisfy { $0 == 0xAB })
    #expect(old[..<(4 << 20)] == new[..<(4 << 20)] && old[(17 << 20)...] == new[(17 << 20)...])
    #expect(old[5 << 20..<9_000_001] == new[5 << 20..<9_000_001])
    try FileManager.default.removeItem(atPath: folder)
  }

  /// The server that pulls is killed at any instant, again and again, while a client writes; what it was told has
  /// been written is there each time.
  @Test(.timeLimit(.minutes(4)), arguments: UInt64(1)...4)
  func killedAgainAndAgain(seed: UInt64) async throws {
    var random = SplitMix64(seed: seed)
    let there = try await source()
    var server = try await serve(copy, at: socket)
    // Slow enough to be under way at every kill, however long a busy machine takes from one to the next: a server that
    // finds everything here has no pull to speak of.
    #expect(
      try await block(["pull", "x", uri, "--bandwidth", "256KiB/s", "--detach"]).status == 0)
    var disk = ExpectedDisk([UInt8](try Data(contentsOf: URL(filePath: image))))
    for life in 0..<5 {
      let load = try await CheckedLoad(at: socket, disk, seed: seed &* 100 &+ UInt64(life))
      try await Task.sleep(for: .milliseconds(100 + random.next() % 300))
      server.send(signal: SIGKILL)
      _ = await server.wait()
      disk = await load.end()
      server = try await serve(copy, at: socket)
      #expect(try await disk.check(at: socket, whole: false) == nil, "life \(life)")
    }
    #expect(!disk.written.isEmpty)
    #expect(try await status()["isWritten"] as? Bool == true)
    // What a client reads comes at once; with all of it read the pull is over.
    #expect(try await disk.check(at: socket, whole: true) == nil)
    try await untilDone()
    await server.stop()
    await there.stop()
    #expect(disk.holds(0..<Self.byteCount, [UInt8](try Data(contentsOf: URL(filePath: copy)))))
    try FileManager.default.removeItem(atPath: folder)
  }

  /// The source's server is killed and started again; the pull goes on by itself, also over a restart of its own.
  @Test(.timeLimit(.minutes(4))) func aKilledSource() async throws {
    var there = try await source()
    var server = try await serve(copy, at: socket, ["--maps", folder])
    // As above: still under way when the servers are killed.
    #expect(
      try await block(["pull", "x", uri, "--bandwidth", "256KiB/s", "--detach"]).status == 0)
    for _ in 0..<2 {
      there.send(signal: SIGKILL)
      _ = await there.wait()
      try await Task.sleep(for: .milliseconds(100))
      there = try await source()
      try await untilMoreIsFetched()
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(names.contains { $0.hasPrefix("file-") && $0.hasSuffix(".godwit-pull") }, "\(names)")
    await server.stop()
    #expect(server.exit == .code(0))
    server = try await serve(copy, at: socket, ["--maps", folder])
    try await untilMoreIsFetched()
    try await Command.run("qemu-io", ["-f", "raw", "-c", "read 0 24M", here])
    try await untilDone()
    await server.stop()
    await there.stop()
    try await Command.run("cmp", [image, copy])
    try FileManager.default.removeItem(atPath: folder)
  }

  @Test(.timeLimit(.minutes(4))) func whatCantBePulledIsSaid() async throws {
    let qcow2 = folder + "/a.qcow2"
    try await Command.run("qemu-img", ["create", "-q", "-f", "qcow2", qcow2, "24M"])
    let other = try await serve(qcow2, at: folder + "/c.sock", ["--format", "qcow2"])
    let there = try await source()
    let refused = try await CommandProcess(
      ["block", "pull", "x", uri, "--socket", folder + "/c.sock"]
    ).end()
    #expect(refused.status == ExitStatus.refused.rawValue)
    await other.stop()
    var server = try await serve(copy, at: socket)
    for (arguments, status) in [
      (["pull", "x", "http://host/x"], ExitStatus.usage), (["pull", "y", uri], .refused),
      (["pull", "x", "nbd+unix:///x?socket=/none"], .refused),
      (["pull", "x", "nbd://192.0.2.1/x"], .refused),
      (["pull", "x", uri, "--bandwidth", "256KiB/s", "--detach"], .done),
      (["pull", "x", uri], .refused), (["pause", "x"], .done), (["resume", "x"], .done),
      (["move", "x", uri], .refused), (["finish", "x"], .refused), (["cancel", "x"], .done),
      // It holds something of the first pull, and may be pulled over.
      (["pull", "x", uri, "--bandwidth", "256KiB/s", "--detach"], .done),
    ] {
      #expect(try await block(arguments).status == status.rawValue, "\(arguments)")
    }
    try await Command.run("qemu-io", ["-f", "raw", "-c", "write 20M 4k", here])
    #expect(try await block(["cancel", "x"]).status == ExitStatus.refused.rawValue)
    await server.stop()
    await there.stop()
    // Without its source, and read-only, the image isn't a disk.
    for more in [[], ["--read-only"]] {
      let binary = ["block", "serve", copy, "--socket", socket, "--export-name", "x"]
      let end = try await CommandProcess(binary + more).end()
      #expect(end.status == ExitStatus.failed.rawValue)
    }
    let again = try await source()
    server = try await serve(copy, at: socket)
    #expect(try await status()["phase"] as? String != "done")
    await server.stop()
    await again.stop()
    // Another image that holds something is not overwritten.
    try FileManager.default.removeItem(atPath: copy + ".godwit-pull")
    server = try await serve(copy, at: socket)
    #expect(try await block(["pull", "x", uri]).status == ExitStatus.refused.rawValue)
    await server.stop()
    try FileManager.default.removeItem(atPath: folder)
  }
}
