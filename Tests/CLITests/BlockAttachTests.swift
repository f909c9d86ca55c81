import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// A running QEMU's disk goes behind our server and comes back, with requests before, between and after.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct BlockAttachTests {
  static let qemus: [String] = {
    let home = ProcessInfo.processInfo.environment["HOME"] ?? "/root"
    let cache =
      ProcessInfo.processInfo.environment["GODWIT_CACHE"] ?? "\(home)/.cache/godwit"
    return ["/usr/bin/qemu-system-x86_64", "\(cache)/qemu/current/usr/bin/qemu-system-x86_64"]
      .filter { SmallFile.isExecutable($0) }
  }()

  private let folder = "/tmp/godwit-attach-\(UUID().uuidString.prefix(8))"
  private var image: String { folder + "/disk.raw" }
  private var socket: String { folder + "/nbd.sock" }
  private var monitor: String { folder + "/qmp" }

  /// A QEMU without firmware's help: its vCPU never runs, its disk is used through the monitor.
  private func start(_ qemu: String, iothread: Bool) throws -> ChildProcess {
    try PrivateDirectory.make(folder)
    try Data(repeating: 7, count: 1 << 20).write(to: URL(filePath: image))
    var arguments = firmwareFolders(of: qemu)
    arguments += [
      "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-m", "64",
      "-qmp", "unix:\(monitor),server=on,wait=off", "-object", "iothread,id=io0",
      "-blockdev", "file,node-name=f0,filename=\(image)",
      "-blockdev", "raw,node-name=n0,file=f0,discard=unmap",
      "-device", "virtio-blk-pci,drive=n0,id=vd0,share-rw=on" + (iothread ? ",iothread=io0" : ""),
    ]
    // What its `qemu-io` says goes to QEMU's own output, not to the monitor.
    let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    defer { close(output) }
    return try ChildProcess(qemu, arguments, output: output)
  }

  private var log: String { folder + "/qemu.log" }

  /// Carries a request out on the disk; returns what QEMU said about it.
  private func use(_ command: String) async throws -> String {
    let before = try String(contentsOfFile: log, encoding: .utf8).count
    let monitor = try await Monitor.connect(path: monitor, timeoutMs: 60_000)
    let refusal = try await monitor.client.humanMonitor("qemu-io n0 \"\(command)\"")
    await monitor.close()
    return try refusal + String(contentsOfFile: log, encoding: .utf8).dropFirst(before)
  }

  private func block(_ arguments: [String]) async throws -> (status: Int32, output: String) {
    try await CommandProcess(["block"] + arguments).end()
  }

  private func untilReady(_ path: String, _ child: ChildProcess) async throws {
    while child.exit == nil, (try? UnixSocket.connect(path: path)) == nil {
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  @Test(.timeLimit(.minutes(4)), arguments: qemus, [false, true])
  func thereAndBack(qemu: String, iothread: Bool) async throws {
    let guest = try start(qemu, iothread: iothread)
    defer { guest.send(signal: SIGKILL) }
    try await untilReady(monitor, guest)
    let binary = try #require(CommandProcess.binary)
    func serve(_ path: String) throws -> ChildProcess {
      try ChildProcess(
        binary, ["block", "serve", "--in-use", path, "--socket", socket, "--export-name", "x"])
    }
    let attach = ["attach", "qmp:\(monitor)", "vd0", "--socket", socket, "--json"]

    // Another file of the same size is not the guest's disk.
    let other = folder + "/other.raw"
    try FileManager.default.copyItem(atPath: image, toPath: other)
    let wrong = try serve(other)
    try await untilReady(socket, wrong)
    #expect(try await block(attach).status == ExitStatus.refused.rawValue)
    await wrong.stop()

    let server = try serve(image)
    try await untilReady(socket, server)
    _ = try await use("write -P 1 0 64k")
    let there = try await block(attach)
    #expect(there.status == 0)
    #expect(there.output.contains("\"place\":\"server\""), "\(there.output)")
    #expect(try await block(attach).status == ExitStatus.refused.rawValue)
    // What was written before is read through the server, and the other way round.
    #expect(try await use("read -P 9 0 64k").contains("verification failed"))
    let read = try await use("read -P 1 0 64k")
    #expect(read.contains("read 65536/65536") && !read.contains("failed"), "\(read)")
    _ = try await use("write -P 2 64k 64k")
    _ = try await use("flush")
    let back = try await block(["detach", "qmp:\(monitor)", "n0", "--json"])
    #expect(back.status == 0 && back.output.contains("\"place\":\"file\""), "\(back.output)")
    // Nobody but QEMU is left.
    await server.stop()
    #expect(server.exit == .code(0))
    _ = try await use("write -P 3 128k 64k")
    _ = try await use("flush")
    #expect(
      try await block(["detach", "qmp:\(monitor)", "n0"]).status == ExitStatus.refused.rawValue)
    let bytes = try [UInt8](Data(contentsOf: URL(filePath: image)))
    for (part, value) in [1, 2, 3, 7].enumerated() {
      let range = (part << 16)..<((part + 1) << 16)
      #expect(bytes[range].allSatisfy { $0 == UInt8(value) }, "part \(part)")
    }
    guest.send(signal: SIGKILL)
    _ = await guest.wait()
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// What QEMU writes to the file itself nobody notes: there and back, a snapshot of before counts no more.
  @Test(.timeLimit(.minutes(4)), arguments: qemus)
  func snapshotsEnd(qemu: String) async throws {
    let guest = try start(qemu, iothread: false)
    defer { guest.send(signal: SIGKILL) }
    try await untilReady(monitor, guest)
    let binary = try #require(CommandProcess.binary)
    let orders = folder + "/orders"
    let server = try ChildProcess(
      binary,
      [
        "block", "serve", "--in-use", image, "--socket", socket, "--export-name", "x", "--control",
        orders,
      ])
    try await untilReady(socket, server)
    try await untilReady(orders, server)
    let notes = image + ".godwit-map.since"
    func snapshot() async throws {
      let taken = try await block([
        "snapshot", "x", "--manifest", folder + "/manifest", "--control", orders,
      ])
      #expect(taken.status == 0 && SmallFile.exists(notes), "\(taken.output)")
    }
    let attach = ["attach", "qmp:\(monitor)", "n0", "--socket", socket]
    let detach = ["detach", "qmp:\(monitor)", "n0"]
    try await snapshot()
    _ = try await use("write -P 1 0 64k")
    // Who can't tell the server may not go on.
    #expect(try await block(attach).status == ExitStatus.refused.rawValue)
    #expect(SmallFile.exists(notes))
    #expect(try await block(attach + ["--control", orders]).status == 0)
    #expect(!SmallFile.exists(notes))
    try await snapshot()
    #expect(try await block(detach).status == ExitStatus.refused.rawValue)
    #expect(SmallFile.exists(notes))
    #expect(try await block(detach + ["--control", orders]).status == 0)
    #expect(!SmallFile.exists(notes))
    // Without notes there is nothing to tell.
    #expect(try await block(attach).status == 0)
    #expect(try await block(detach).status == 0)
    await server.terminate()
    guest.send(signal: SIGKILL)
    _ = await guest.wait()
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// The disk of a running QEMU moves to another server, and the guest goes on over there.
  @Test(.timeLimit(.minutes(4)), arguments: qemus, ["precopy", "mirror", "iofollow"])
  func movedWhileItRuns(qemu: String, method: String) async throws {
    let guest = try start(qemu, iothread: true)
    defer { guest.send(signal: SIGKILL) }
    try await untilReady(monitor, guest)
    let binary = try #require(CommandProcess.binary)
    let (copy, target) = (folder + "/copy.raw", folder + "/there.sock")
    try Data(count: 1 << 20).write(to: URL(filePath: copy))
    let there = try ChildProcess(binary, ["block", "serve", copy, "--socket", target])
    let here = try ChildProcess(
      binary, ["block", "serve", "--in-use", image, "--socket", socket, "--export-name", "x"])
    try await untilReady(target, there)
    try await untilReady(socket + ".control", here)
    #expect(try await block(["attach", "qmp:\(monitor)", "n0", "--socket", socket]).status == 0)
    _ = try await use("write -P 1 0 64k")
    let move = [
      "move", "x", "nbd+unix:///copy.raw?socket=\(target)", "--socket", socket, "--method", method,
    ]
    // Both sides are kept the same first: nobody may take the disk away meanwhile.
    #expect(try await block(move + ["--then", "wait"]).status == 0)
    _ = try await use("write -P 2 64k 64k")
    let detach = ["detach", "qmp:\(monitor)", "n0"]
    #expect(try await block(detach).status == ExitStatus.refused.rawValue)
    #expect(try await block(["finish", "x", "--socket", socket]).status == 0)
    while true {
      let status = try await block(["status", "x", "--socket", socket, "--json"])
      if status.output.contains("\"phase\":\"switched\"") { break }
      try await Task.sleep(for: .milliseconds(20))
    }
    for value in 1...2 {
      let read = try await use("read -P \(value) \((value - 1) * 64)k 64k")
      #expect(read.contains("read 65536/65536") && !read.contains("failed"), "\(read)")
    }
    _ = try await use("write -P 3 128k 64k")
    _ = try await use("flush")
    #expect(try await block(detach).status == ExitStatus.refused.rawValue)
    guest.send(signal: SIGKILL)
    _ = await guest.wait()
    await here.stop()
    await there.stop()
    let bytes = try [UInt8](Data(contentsOf: URL(filePath: copy)))
    for (part, value) in [1, 2, 3, 7].enumerated() {
      let range = (part << 16)..<((part + 1) << 16)
      #expect(bytes[range].allSatisfy { $0 == UInt8(value) }, "part \(part)")
    }
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// A server that is killed and started again costs the guest a wait, no error and no byte.
  @Test(.timeLimit(.minutes(4)), arguments: qemus) func aKilledServer(qemu: String) async throws {
    let guest = try start(qemu, iothread: true)
    defer { guest.send(signal: SIGKILL) }
    try await untilReady(monitor, guest)
    let binary = try #require(CommandProcess.binary)
    func serve() async throws -> ChildProcess {
      let server = try ChildProcess(
        binary, ["block", "serve", "--in-use", image, "--socket", socket])
      try await untilReady(socket, server)
      return server
    }
    var server = try await serve()
    #expect(try await block(["attach", "qmp:\(monitor)", "n0", "--socket", socket]).status == 0)
    for value in 1...3 {
      _ = try await use("write -P \(value) 0 64k")
      server.send(signal: SIGKILL)
      _ = await server.wait()
      server = try await serve()
      let read = try await use("read -P \(value) 0 64k")
      #expect(read.contains("read 65536/65536") && !read.contains("failed"), "\(read)")
    }
    let detach = ["detach", "qmp:\(monitor)", "n0"]
    server.send(signal: SIGKILL)
    _ = await server.wait()
    #expect(try await block(detach).status == ExitStatus.refused.rawValue)
    server = try await serve()
    #expect(try await block(detach).status == 0)
    await server.stop()
    let read = try await use("read -P 3 0 64k")
    #expect(read.contains("read 65536/65536") && !read.contains("failed"), "\(read)")
    guest.send(signal: SIGKILL)
    _ = await guest.wait()
    try? FileManager.default.removeItem(atPath: folder)
  }
}
