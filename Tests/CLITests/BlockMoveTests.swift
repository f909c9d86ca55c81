import Base
import BlockStore
import Foundation
import Glibc
import HostIO
import Testing

@testable import Agent

/// `godwit block move` as it is run: two servers, a client that writes, and kill -9.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct BlockMoveTests {
  static let byteCount = 24 << 20
  private static let content = randomImage(byteCount: byteCount, seed: 9)
  private let folder = "/tmp/godwit-move-\(UUID().uuidString.prefix(8))"
  private var image: String { folder + "/disk.raw" }
  private var copy: String { folder + "/copy.raw" }
  private var socket: String { folder + "/a.sock" }
  private var target: String { folder + "/b.sock" }
  private var uri: String { "nbd+unix:///x?socket=\(target)" }

  init() throws {
    try PrivateDirectory.make(folder)
    try Self.content.write(to: URL(filePath: image))
    try Data().write(to: URL(filePath: copy))
    truncate(copy, off_t(Self.byteCount))
  }

  private func serve(
    _ image: String, at socket: String, _ more: [String] = []
  ) async throws -> ChildProcess {
    let binary = try #require(CommandProcess.binary)
    let child = try ChildProcess(
      binary, ["block", "serve", image, "--socket", socket, "--export-name", "x"] + more)
    while (try? UnixSocket.connect(path: socket)) == nil {
      guard child.exit == nil else { throw SystemError("serve \(image)", code: ECHILD) }
      try await Task.sleep(for: .milliseconds(10))
    }
    // Its control socket comes right after.
    while (try? UnixSocket.connect(path: socket + ".control")) == nil {
      try await Task.sleep(for: .milliseconds(10))
    }
    return child
  }

  private func block(_ arguments: [String]) async throws -> (status: Int32, output: String) {
    try await CommandProcess(["block"] + arguments + ["--socket", socket]).end()
  }

  private func fields(_ output: String) throws -> [String: Any] {
    let line = try #require(output.split(separator: "\n").last)
    let object = try JSONSerialization.jsonObject(with: Data(line.utf8))
    return try #require(object as? [String: Any])
  }

  /// What a method needs besides its name.
  private func method(_ name: String) async throws -> [String] {
    if name == "incremental" {
      let manifest = folder + "/base.manifest"
      if !FileManager.default.fileExists(atPath: manifest) {
        let made = try await CommandProcess(["block", "manifest", uri, "--output", manifest]).end()
        #expect(made.status == 0, "\(made)")
      }
      return ["--method", name, "--base-manifest", manifest]
    }
    guard name == "waio" else { return ["--method", name] }
    let surrogate = folder + "/surrogate"
    if !FileManager.default.fileExists(atPath: surrogate) {
      try Data().write(to: URL(filePath: surrogate))
      truncate(surrogate, 32 << 20)
    }
    return ["--method", name, "--surrogate", surrogate, "--popular-reads", "2"]
  }

  /// Waits until nothing is in a surrogate any more.
  private func untilAllIsBack() async throws {
    while try fields(try await block(["status", "x", "--json"]).output)["surrogate"]
      as? [String: Any] != nil
    {
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// Waits until the destination has the disk's end on stable storage.
  private func untilTheEndIsFlushed() async throws {
    while true {
      let map = try await Command.run(
        "nbdinfo", ["--map=godwit:needed", "nbd+unix:///x?socket=\(socket)"])
      // Offset, length, flags.
      if map.split(separator: "\n").last?.split(separator: " ").dropFirst(2).first == "0" { return }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  @Test(.timeLimit(.minutes(4)), arguments: ["precopy", "mirror", "iofollow", "waio"])
  func theDiskIsElsewhereAfterwards(method: String) async throws {
    let (there, here) = (try await serve(copy, at: target), try await serve(image, at: socket))
    let moved = try await block(["move", "x", uri, "--json"] + self.method(method))
    let end = try fields(moved.output)
    #expect(moved.status == 0 && end["phase"] as? String == "switched", "\(moved)")
    #expect(end["neededBytes"] as? Int == 0 && end["wireBytes"] as? Int == Self.byteCount)
    let use = ["-f", "raw", "-c", "write -P 3 1M 64k", "-c", "flush"]
    try await Command.run("qemu-io", use + ["nbd+unix:///x?socket=\(socket)"])
    let status = try fields(try await block(["status", "--json"]).output)
    #expect(status["phase"] as? String == "switched")
    #expect(try await block(["cancel", "x"]).status == ExitStatus.refused.rawValue)
    await here.stop()
    #expect(here.exit == .code(0))
    // The image is out of date, and a server of it knows.
    let again = try await serve(image, at: socket)
    try await Command.run(
      "qemu-io",
      ["-f", "raw", "-c", "read -P 3 1M 64k", "-c", "write -P 4 2M 4k", "-c", "flush"]
        + ["nbd+unix:///x?socket=\(socket)"])
    await again.stop()
    await there.stop()
    let (old, new) = (
      try Data(contentsOf: URL(filePath: image)), try Data(contentsOf: URL(filePath: copy))
    )
    #expect(new[1 << 20..<(1 << 20) + 65536].allSatisfy { $0 == 3 })
    #expect(new[2 << 20..<(2 << 20) + 4096].allSatisfy { $0 == 4 })
    #expect(old[..<(1 << 20)] == new[..<(1 << 20)] && old[(3 << 20)...] == new[(3 << 20)...])
    try FileManager.default.removeItem(atPath: folder)
  }

  /// The source's server is killed at any instant, again and again, while a client writes and the disk
  /// moves; each time the next one goes on with the map that was left, and has every write that was answered. In the end
  /// both images have them, though most of the disk was sent once only.
  @Test(
    .timeLimit(.minutes(4)),
    arguments: zip(["precopy", "mirror", "iofollow", "waio", "incremental"], UInt64(1)...5))
  func killedAgainAndAgain(method: String, seed: UInt64) async throws {
    var random = SplitMix64(seed: seed)
    if method == "incremental" {
      // Half of it is there already.
      var bytes = try Data(contentsOf: URL(filePath: image))
      bytes.replaceSubrange((Self.byteCount / 2)..., with: Data(count: Self.byteCount / 2))
      try bytes.write(to: URL(filePath: copy))
    }
    let there = try await serve(copy, at: target)
    var disk = ExpectedDisk([UInt8](try Data(contentsOf: URL(filePath: image))))
    var here = try await serve(image, at: socket)
    for life in 0..<5 {
      // Its end stays as it was: a slow machine's lives are long enough to write everything else.
      let load = try await CheckedLoad(
        at: socket, disk, seed: seed &* 100 &+ UInt64(life), sparedBytes: 6 << 20)
      let begun = try await block(
        [
          "move", "x", uri, "--then", "wait", "--detach", "--bandwidth", "12MiB/s",
        ] + self.method(method))
      #expect(begun.status == 0, "life \(life)")
      // The first one lives until the destination has flushed that: only what it has is remembered.
      if life == 0 { try await untilTheEndIsFlushed() }
      try await Task.sleep(for: .milliseconds(200 + random.next() % 400))
      here.send(signal: SIGKILL)
      _ = await here.wait()
      disk = await load.end()
      here = try await serve(image, at: socket)
      #expect(try await disk.check(at: socket, whole: true) == nil, "life \(life)")
    }
    #expect(!disk.written.isEmpty)
    let before = try fields(try await block(["status", "x", "--json"]).output)
    #expect(before["phase"] as? String == "interrupted")
    // Something had arrived, and was remembered.
    #expect(before["neededBytes"] as? Int ?? .max < Self.byteCount)
    let moved = try await block(
      ["move", "x", uri, "--then", "copy", "--json"] + self.method(method))
    let end = try fields(moved.output)
    #expect(moved.status == 0 && end["phase"] as? String == "copied", "\(moved)")
    #expect(end["arrivedBytes"] as? Int ?? .max < Self.byteCount)
    try await untilAllIsBack()
    #expect(try await disk.check(at: socket, whole: true) == nil)
    await here.stop()
    await there.stop()
    for path in [image, copy] {
      let bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
      #expect(disk.holds(0..<Self.byteCount, bytes), "\(path)")
    }
    for name in ["", ".surrogate"] {
      #expect(!FileManager.default.fileExists(atPath: image + ".godwit-map" + name))
    }
    try FileManager.default.removeItem(atPath: folder)
  }

  /// What hasn't changed since a snapshot isn't read from the disk, also not by the next server.
  @Test(.timeLimit(.minutes(4))) func backupsGiveWhatHasNotChanged() async throws {
    let (backup, third) = (folder + "/backup.raw", folder + "/c.sock")
    try FileManager.default.copyItem(atPath: image, toPath: backup)
    let (there, backups) = (try await serve(copy, at: target), try await serve(backup, at: third))
    let first = try await serve(image, at: socket)
    let manifest = folder + "/manifest"
    let taken = try await block(["snapshot", "x", "--manifest", manifest, "--json"])
    let parts = try fields(taken.output)["parts"] as? Int
    #expect(taken.status == 0 && parts == 384, "\(taken)")
    try await Command.run(
      "qemu-io",
      ["-f", "raw", "-c", "write -P 3 1M 64k", "-c", "flush", "nbd+unix:///x?socket=\(socket)"])
    first.send(signal: SIGKILL)
    _ = await first.wait()
    let here = try await serve(image, at: socket)
    let arguments = ["move", "x", uri, "--method", "snapmig", "--then", "copy", "--json"]
    #expect(try await block(arguments).status == ExitStatus.usage.rawValue)
    let source = ["--backup", "nbd+unix:///x?socket=\(third)", "--manifest"]
    #expect(try await block(arguments + source + [backup]).status == ExitStatus.refused.rawValue)
    let moved = try await block(arguments + source + [manifest])
    let end = try fields(moved.output)
    #expect(moved.status == 0 && end["phase"] as? String == "copied", "\(moved)")
    #expect(end["backupBytes"] as? Int ?? 0 >= Self.byteCount - (256 << 10), "\(end)")
    #expect(end["readBytes"] as? Int ?? .max <= 256 << 10, "\(end)")
    for server in [here, there, backups] { await server.stop() }
    try await Command.run("cmp", [image, copy])
    try FileManager.default.removeItem(atPath: folder)
  }

  /// Only what an older copy hasn't is sent; a manifest of something else is refused.
  @Test(.timeLimit(.minutes(4))) func anOlderCopyIsBroughtUpToDate() async throws {
    var bytes = try Data(contentsOf: URL(filePath: image))
    bytes.replaceSubrange((5 << 20)..<(6 << 20), with: Data(count: 1 << 20))
    try bytes.write(to: URL(filePath: copy))
    let (manifest, other) = (folder + "/base.manifest", folder + "/other.manifest")
    let made = try await CommandProcess(["block", "manifest", copy, "--output", manifest, "--json"])
      .end()
    let parts = try fields(made.output)["parts"] as? Int
    #expect(made.status == 0 && parts == 384, "\(made)")
    let none = try await CommandProcess(["block", "manifest", "/none", "--output", other]).end()
    #expect(none.status == ExitStatus.failed.rawValue)
    let exposed = ["block", "manifest", "nbd://192.0.2.1/x", "--output", other]
    #expect(try await CommandProcess(exposed).end().status == ExitStatus.refused.rawValue)
    let (there, here) = (try await serve(copy, at: target), try await serve(image, at: socket))
    let take = try await CommandProcess(
      ["block", "manifest", "nbd+unix:///x?socket=\(socket)", "--output", other]
    ).end()
    #expect(take.status == 0, "\(take)")
    let move = ["move", "x", uri, "--method", "incremental", "--then", "copy", "--json"]
    for (arguments, status) in [
      ([], ExitStatus.usage), (["--base-manifest", "here"], .usage),
      (["--base-manifest", manifest, "--samples", "0"], .usage),
      (["--base-manifest", manifest, "--backup", uri], .usage),
      (["--base-manifest", manifest, "--base-bitmap", "b0"], .usage),
      (["--base-bitmap", "b0", "--manifest", manifest], .usage),
      // A raw image has none.
      (["--base-bitmap", "b0"], .refused),
      (["--base-manifest", copy], .refused),
      // The disk's own: 16 of 384 parts of the copy have something else, and all are looked at.
      (["--base-manifest", other, "--samples", "65536"], .refused),
    ] {
      #expect(try await block(move + arguments).status == status.rawValue, "\(arguments)")
    }
    let moved = try await block(move + ["--base-manifest", manifest, "--verify", "all"])
    let end = try fields(moved.output)
    #expect(moved.status == 0 && end["phase"] as? String == "copied", "\(moved)")
    #expect(end["skippedBytes"] as? Int == 23 << 20 && end["baseRefusals"] as? Int == 0, "\(end)")
    #expect(end["arrivedBytes"] as? Int == 1 << 20, "\(end)")
    for server in [here, there] { await server.stop() }
    try await Command.run("cmp", [image, copy])
    try FileManager.default.removeItem(atPath: folder)
  }

  /// What a qcow2 image's dirty bitmap has recorded since the copy was made is sent, and no more.
  @Test(
    .timeLimit(.minutes(4)),
    .enabled(
      if: FileManager.default.isExecutableFile(atPath: "/usr/bin/qemu-nbd"), "no qemu-nbd"))
  func aBitmapSaysWhatTheCopyLacks() async throws {
    let qcow2 = folder + "/disk.qcow2"
    for arguments in [
      ["convert", "-f", "raw", "-O", "qcow2", image, qcow2], ["bitmap", "--add", qcow2, "b0"],
    ] { try await Command.run("qemu-img", arguments) }
    try Self.content.write(to: URL(filePath: copy))
    try await Command.run(
      "qemu-io", ["-f", "qcow2", "-c", "write -P 9 2M 128k", "-c", "write -P 8 20M 4k", qcow2])
    let there = try await serve(copy, at: target)
    let here = try await serve(
      qcow2, at: socket, ["--format", "qcow2", "--bitmap", "b0", "--maps", folder])
    let moved = try await block([
      "move", "x", uri, "--method", "incremental", "--base-bitmap", "b0", "--then", "copy",
      "--json",
    ])
    let end = try fields(moved.output)
    #expect(moved.status == 0 && end["phase"] as? String == "copied", "\(moved)")
    #expect(end["arrivedBytes"] as? Int == 3 << 16, "\(end)")
    #expect(end["skippedBytes"] as? Int == Self.byteCount - (3 << 16), "\(end)")
    for server in [here, there] { await server.stop() }
    try await Command.run("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", qcow2, copy])
    let raw = try await CommandProcess(
      ["block", "serve", image, "--socket", socket, "--bitmap", "b0"]
    ).end()
    #expect(raw.status == ExitStatus.usage.rawValue)
    try FileManager.default.removeItem(atPath: folder)
  }

  /// The destination's server is killed and started again; the move goes on by itself, and both sides have every write that
  /// was answered.
  @Test(.timeLimit(.minutes(4))) func aKilledDestination() async throws {
    var there = try await serve(copy, at: target)
    let here = try await serve(image, at: socket, ["--maps", folder])
    let content = [UInt8](try Data(contentsOf: URL(filePath: image)))
    let load = try await CheckedLoad(at: socket, ExpectedDisk(content), seed: 4)
    async let moved = block([
      "move", "x", uri, "--then", "wait", "--bandwidth", "12MiB/s", "--json",
    ])
    while true {
      let status = try await block(["status", "x", "--json"])
      if status.status == 0, !status.output.isEmpty,
        try fields(status.output)["arrivedBytes"] as? Int ?? 0 > 0
      {
        break
      }
    }
    for _ in 0..<3 {
      there.send(signal: SIGKILL)
      _ = await there.wait()
      there = try await serve(copy, at: target)
      try await Task.sleep(for: .milliseconds(300))
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(names.contains { $0.hasPrefix("file-") && $0.hasSuffix(".godwit-map") }, "\(names)")
    let end = try await moved
    #expect(end.status == 0, "\(end)")
    // Also where all had been copied before the first of them died.
    while try fields(try await block(["status", "x", "--json"]).output)["connectionCount"] as? Int
      ?? 0 < 2
    {
      try await Task.sleep(for: .milliseconds(20))
    }
    load.stop()
    var disk = await load.end()
    #expect(!disk.written.isEmpty)
    #expect(try await disk.check(at: socket, whole: true) == nil)
    #expect(try await block(["finish", "x", "--then", "copy"]).status == 0)
    while try fields(try await block(["status", "x", "--json"]).output)["phase"] as? String
      != "copied"
    {
      try await Task.sleep(for: .milliseconds(20))
    }
    await here.stop()
    await there.stop()
    for path in [image, copy] {
      let bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
      #expect(disk.holds(0..<Self.byteCount, bytes), "\(path)")
    }
    try FileManager.default.removeItem(atPath: folder)
  }

  /// Over TLS: both servers know each other by their certificates.
  @Test(.timeLimit(.minutes(4))) func encrypted() async throws {
    for name in ["ours", "theirs"] {
      for arguments in [["init"], ["host", "localhost", "127.0.0.1"]] {
        let end = try await CommandProcess(["pki"] + arguments + ["--dir", "\(folder)/\(name)"])
          .end()
        #expect(end.status == 0)
      }
    }
    let port = TestPort.next()
    let there = try await serve(
      copy, at: target, ["--listen", "127.0.0.1:\(port)", "--dir", folder + "/ours"])
    let stranger = try await serve(image, at: socket, ["--dir", folder + "/theirs"])
    let address = "localhost:\(port)/x"
    #expect(
      try await block(["move", "x", "nbds://" + address]).status == ExitStatus.refused.rawValue)
    await stranger.stop()
    let here = try await serve(image, at: socket, ["--dir", folder + "/ours"])
    // That server says nothing in plain, and this one is who it was asked for.
    for uri in ["nbd://" + address, "nbds://127.0.0.2:\(port)/x"] {
      #expect(try await block(["move", "x", uri]).status == ExitStatus.refused.rawValue)
    }
    let moved = try await block(["move", "x", "nbds://" + address, "--then", "copy", "--json"])
    #expect(moved.status == 0, "\(moved)")
    await here.stop()
    await there.stop()
    try await Command.run("cmp", [image, copy])
    try FileManager.default.removeItem(atPath: folder)
  }

  @Test(.timeLimit(.minutes(4))) func whatCantBeMovedIsSaid() async throws {
    #expect(try await block(["status"]).status == ExitStatus.failed.rawValue)
    let here = try await serve(image, at: socket)
    for (arguments, status) in [
      (["move", "x", "http://host/x"], ExitStatus.usage), (["move", "y", uri], .refused),
      (["move", "x", uri], .refused), (["move", "x", "nbd://192.0.2.1/x"], .refused),
      (["move", "x", uri, "--method", "waio"], .usage),
      (["move", "x", uri, "--surrogate", "/tmp/none"], .usage),
      (["move", "x", uri, "--method", "waio", "--surrogate", "here"], .usage),
      (["move", "x", uri, "--popular-reads", "3"], .usage),
      (["move", "x", uri, "--pause", "1h"], .usage), (["pause", "x"], .refused),
      (["cancel", "x"], .refused), (["status", "y"], .refused), (["status"], .done),
      (["status", "x"], .done),
    ] {
      #expect(try await block(arguments).status == status.rawValue, "\(arguments)")
    }
    let uncontrolled = try await CommandProcess(["block", "status"]).end()
    #expect(uncontrolled.status == ExitStatus.usage.rawValue)
    await here.stop()
    try FileManager.default.removeItem(atPath: folder)
  }
}
