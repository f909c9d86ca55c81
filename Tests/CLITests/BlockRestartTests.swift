import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// A running QEMU's disk is behind a server that is killed and started again, on a socket that outlives it.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct BlockRestartTests {
  private static let byteCount = 8 << 20
  private let folder = "/tmp/godwit-restart-\(UUID().uuidString.prefix(8))"
  private var image: String { folder + "/disk.raw" }
  private var socket: String { folder + "/nbd.sock" }
  private var monitor: String { folder + "/qmp" }
  /// The test's own monitor, and an NBD export of the guest's disk, in place of a vCPU that would use it.
  private var ownMonitor: String { folder + "/own" }
  private var export: String { folder + "/own.nbd" }

  private func start(_ qemu: String, iothread: Bool) async throws -> ChildProcess {
    var arguments = firmwareFolders(of: qemu)
    arguments += [
      "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-m", "64",
      "-qmp", "unix:\(monitor),server=on,wait=off", "-qmp",
      "unix:\(ownMonitor),server=on,wait=off", "-object", "iothread,id=io0",
      "-blockdev", "file,node-name=f0,filename=\(image)",
      "-blockdev", "raw,node-name=n0,file=f0,discard=unmap",
      "-device", "virtio-blk-pci,drive=n0,id=vd0,share-rw=on" + (iothread ? ",iothread=io0" : ""),
    ]
    let guest = try ChildProcess(qemu, arguments)
    try await OverlayRig.untilAnswers(ownMonitor, guest)
    try await OverlayRig.ask(ownMonitor) { client in
      try await client.execute(
        "nbd-server-start", ["addr": ["type": "unix", "data": ["path": .string(export)]]])
      try await client.execute(
        "block-export-add",
        ["type": "nbd", "id": "e0", "node-name": "n0", "name": "x", "writable": true])
    }
    return guest
  }

  /// How long a request takes is printed, not judged: this machine may have something else to do.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus, [false, true])
  func aKilledServerIsAStallAndNoError(qemu: String, iothread: Bool) async throws {
    try PrivateDirectory.make(folder)
    let content = randomImage(byteCount: Self.byteCount, seed: 6)
    try content.write(to: URL(filePath: image))
    let binary = try #require(CommandProcess.binary)
    // As a supervisor has it. The shell's `exec` keeps the process id that is named.
    let listener = try UnixSocket.listen(path: socket)
    let inherited = fcntl(listener.raw, F_DUPFD, 100)
    defer { close(inherited) }
    let script = """
      exec 3<&\(inherited); LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" block serve --in-use "$1" --control "$2"
      """
    func life() throws -> ChildProcess {
      try ChildProcess("bash", ["-c", script, binary, image, socket + ".control"])
    }
    let guest = try await start(qemu, iothread: iothread)
    defer { guest.send(signal: SIGKILL) }
    var server = try life()
    let attach = ["block", "attach", "qmp:\(monitor)", "vd0", "--socket", socket, "--json"]
    let there = try await CommandProcess(attach).end()
    #expect(there.status == 0, "\(there.output)")
    let load = try await CheckedLoad(at: export, ExpectedDisk([UInt8](content)), seed: 5)
    var stallsMs: [UInt64] = []
    for _ in 0..<5 {
      try await Task.sleep(for: .milliseconds(500))
      _ = load.takeLongestUs()
      server.send(signal: SIGKILL)
      _ = await server.wait()
      server = try life()
      // One that began before the death, and the first one behind it.
      let count = load.answerCount
      while load.answerCount < count + 2 { try await Task.sleep(for: .milliseconds(10)) }
      stallsMs.append(load.takeLongestUs() / 1000)
    }
    print("longest request around each death, in ms: \(stallsMs)")
    load.stop()
    let disk = await load.end()
    #expect(disk.problem == nil && !disk.written.isEmpty)
    let back = try await CommandProcess(["block", "detach", "qmp:\(monitor)", "vd0", "--json"])
      .end()
    #expect(back.status == 0, "\(back.output)")
    await server.stop()
    #expect(server.exit == .code(0))
    #expect(disk.holds(0..<Self.byteCount, [UInt8](try Data(contentsOf: URL(filePath: image)))))
    try FileManager.default.removeItem(atPath: folder)
  }
}
