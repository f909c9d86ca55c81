import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// A running QEMU's qcow2 disk goes behind our server and comes back, while it is written to.
@Suite(.enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct BlockOverlayTests {
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus, [false, true])
  func thereAndBack(qemu: String, iothread: Bool) async throws {
    let rig = try await OverlayRig(qemu, iothread: iothread, namesBacking: iothread)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await rig.serve()
    try await rig.write()
    let there = try await rig.writing { try await rig.block("attach") }
    #expect(there.status == 0 && there.output.contains("\"place\":\"server\""), "\(there.output)")
    #expect(try await rig.guestReadsAll())
    #expect(try await rig.block("attach").status == ExitStatus.refused.rawValue)
    // Nobody else writes to the image, and it is the disk alone.
    #expect(
      try await OverlayRig.exit("qemu-io", ["-f", "qcow2", "-c", "write 0 4k", rig.image])
        != .code(0))
    #expect(
      rig.names.isDisjoint(with: ["disk.qcow2.godwit-overlay", "disk.qcow2.godwit-overlay.done"]))
    try await rig.write()
    let back = try await rig.writing { try await rig.block("detach") }
    #expect(back.status == 0 && back.output.contains("\"place\":\"file\""), "\(back.output)")
    #expect(try await rig.block("detach").status == ExitStatus.refused.rawValue)
    // And there again, with the same server; it isn't needed once the disk is back.
    #expect(try await rig.block("attach").status == 0)
    #expect(try await rig.block("detach").status == 0)
    await server.stop()
    #expect(server.exit == .code(0))
    try await rig.write()
    #expect(try await rig.guestReadsAll())
    let nodes = try await rig.ask { try await $0.queryBlockNodes().map(\.nodeName) }
    #expect(
      Set(nodes.filter { !$0.hasPrefix("#") })
        == (iothread ? ["n0", "f0", "b0", "fb"] : ["n0", "f0"]))
    let lineage = try await rig.ask { try await $0.queryBlockLineages().first { $0.qdev != nil } }
    #expect(lineage?.layers.first?.nodeName == "n0" && lineage?.layers.count == 2)
    #expect(iothread == (lineage?.layers.last?.nodeName == "b0"))
    await rig.quit()
    #expect(try await rig.holdsAll(rig.image))
    rig.remove()
  }

  /// A server that is killed and started again costs the guest a wait, no error and no byte; and so it does a disk on
  /// its way.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func aKilledServer(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: true)
    defer { rig.guest.send(signal: SIGKILL) }
    var server = try await rig.serve()
    #expect(try await rig.block("attach").status == 0)
    try await rig.write()
    for _ in 0..<2 {
      server.send(signal: SIGKILL)
      _ = await server.wait()
      server = try await rig.serve()
      #expect(try await rig.guestReadsAll())
      try await rig.write()
    }
    server.send(signal: SIGKILL)
    _ = await server.wait()
    #expect(try await rig.block("detach").status == ExitStatus.refused.rawValue)
    server = try await rig.serve()
    #expect(try await rig.block("detach").status == 0)
    await server.stop()
    #expect(try await rig.guestReadsAll())
    await rig.quit()
    #expect(try await rig.holdsAll(rig.image))
    rig.remove()
  }

  /// Whoever is killed between two steps leaves a disk that is whole, and the next one goes on, there or back.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus, [2, 3])
  func aKilledCommand(qemu: String, step: Int) async throws {
    let rig = try await OverlayRig(qemu, iothread: true)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await rig.serve()
    try await rig.write()
    try await leave(rig, "attach", at: step)
    try await rig.write()
    let there = try await rig.writing { try await rig.block("attach") }
    #expect(there.status == 0, "\(there.output)")
    try await leave(rig, "detach", at: step)
    try await rig.write()
    // Not on, but back again; and then all the way.
    #expect(try await rig.block("attach").status == 0)
    #expect(try await rig.guestReadsAll())
    #expect(try await rig.block("detach").status == 0)
    try await leave(rig, "attach", at: step)
    #expect(try await rig.block("detach").status == 0)
    await server.stop()
    try await rig.write()
    await rig.quit()
    #expect(try await rig.holdsAll(rig.image))
    #expect(
      rig.names.isDisjoint(with: ["disk.qcow2.godwit-overlay", "disk.qcow2.godwit-overlay.done"]))
    rig.remove()
  }

  /// Serves the disk and leaves it with its overlay over the server, with something in it. Returns the server.
  func halfWay(_ rig: OverlayRig) async throws -> ChildProcess {
    let server = try await rig.serve()
    try await leave(rig, "attach", at: 3)
    try await rig.write()
    return server
  }

  /// Drives the disk as the command does, up to what it says before a step, and is then gone.
  func leave(_ rig: OverlayRig, _ command: String, at step: Int) async throws {
    try await OverlayRig.ask(rig.monitor) { client in
      let said = Guarded(0)
      let pivot = OverlayPivot(client) { _ in
        if said.update({
          $0 += 1; return $0
        }) == step {
          client.close()
        }
      }
      let disk = try #require(try await pivot.find("vd0"))
      let server = ToldServer(rig)
      await #expect(throws: GuestDiskError.self) {
        if command == "attach" {
          _ = try await pivot.attach(disk, to: server, discard: true)
        } else {
          _ = try await pivot.detach(disk, from: server, discard: true)
        }
      }
    }
  }

  /// A guest whose requests are held, because whoever was to change its disk over has died, gets them by the next one.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func aHeldGuest(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: true)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await rig.serve()
    try await leave(rig, "attach", at: 3)
    try await ToldServer(rig).take()
    try await rig.ask { client in
      try await client.blockCommit(job: "gj-n0", device: "go-n0", base: "gq-n0")
      while let job = try await client.queryJobs().first, job.status != .pending {
        if job.status == .ready { try? await client.jobComplete("gj-n0") }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    async let written: Void = rig.write()
    let back = try await rig.block("detach")
    #expect(back.status == 0, "\(back.output)")
    try await written
    try await rig.endsWhole(server)
  }

  /// When QEMU dies on the way, the disk is the overlay on top of the image, and nobody is given less.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func aDeadGuest(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: false)
    defer { rig.guest.send(signal: SIGKILL) }
    var server = try await rig.serve()
    try await rig.write()
    try await leave(rig, "attach", at: 3)
    try await rig.write()
    server.send(signal: SIGKILL)
    _ = await server.wait()
    server = try await rig.serve()
    await rig.quit()
    // A server that has it not open yet leaves it alone, and ends well.
    #expect(
      try await OverlayRig.exit("qemu-io", ["-f", "raw", "-c", "write 0 4k", rig.uri]) != .code(0))
    await server.stop()
    #expect(server.exit == .code(0))
    #expect(try await !rig.holdsAll(rig.image))
    // By any path.
    let other = rig.folder + "/other"
    try FileManager.default.createSymbolicLink(atPath: other, withDestinationPath: rig.image)
    for arguments in [[rig.image], [rig.image, "--in-use"], [other], [other, "--in-use"]] {
      let serve = try await CommandProcess(
        ["block", "serve", "--format", "qcow2", "--socket", rig.socket] + arguments
      ).end()
      #expect(serve.status == ExitStatus.refused.rawValue, "\(arguments): \(serve.output)")
    }
    #expect(try await rig.holdsAll(rig.overlay))
    try await OverlayRig.run("qemu-img", "commit", "-q", rig.overlay)
    #expect(try await rig.holdsAll(rig.image))
    rig.remove()
  }

  /// While the image can't be had, nobody writes to it, and the guest goes on.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func anImageThatCantBeHad(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: true)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await rig.serve()
    try await rig.write()
    // Nobody is there to take it: all is as it was.
    let failed = try await rig.block("attach", "--control", rig.folder + "/nobody")
    #expect(failed.status == ExitStatus.failed.rawValue)
    #expect(try await rig.ask { try await $0.queryBlock().first?.node?.nodeName } == "n0")
    // An overlay of a guest that died is never lost.
    try Data("precious".utf8).write(to: URL(filePath: rig.overlay))
    #expect(try await rig.block("attach").status == ExitStatus.refused.rawValue)
    #expect(try String(contentsOfFile: rig.overlay, encoding: .utf8) == "precious")
    try FileManager.default.removeItem(atPath: rig.overlay)
    // Another program has it open: neither there nor back.
    try await leave(rig, "attach", at: 2)
    let other = try ChildProcess(
      "qemu-nbd", ["-r", "-f", "qcow2", "-t", "-k", rig.folder + "/other.sock", rig.image])
    try await OverlayRig.untilAnswers(rig.folder + "/other.sock", other)
    let stuck = try await rig.writing { try await rig.block("attach") }
    #expect(stuck.status == ExitStatus.failed.rawValue)
    #expect(try await rig.guestReadsAll())
    await other.stop()
    #expect(try await rig.block("attach").status == 0)
    #expect(try await rig.guestReadsAll())
    #expect(try await rig.block("detach").status == 0)
    try await rig.endsWhole(server)
  }
}

extension BlockOverlayTests {
  /// What a command left that was killed while it made an overlay, or once it had taken its name.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func whatIsLeftBehind(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: false)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await rig.serve()
    let done = rig.overlay + ".done"
    try Data("old".utf8).write(to: URL(filePath: done))
    try Data().write(to: URL(filePath: rig.folder + "/made"))
    try await rig.ask { client in
      try await client.blockdevAdd([
        "driver": "file", "node-name": "x", "filename": .string(rig.folder + "/made"),
      ])
      try await client.createQcow2(
        job: "gc-n0", file: "x", byteCount: 8 << 20, backing: rig.image)
    }
    try await leave(rig, "attach", at: 3)
    #expect(!SmallFile.exists(done))
    try await rig.write()
    // The guest goes on with an overlay that has no name: the next command gives it back before anything else.
    try FileManager.default.moveItem(atPath: rig.overlay, toPath: done)
    try await leave(rig, "attach", at: 1)
    #expect(SmallFile.exists(rig.overlay) && !SmallFile.exists(done))
    #expect(try await rig.block("attach").status == 0)
    #expect(try await rig.guestReadsAll())
    try await rig.endsWhole(server)
  }

  /// A command that is interrupted while QEMU may change over at any moment leaves nothing that does so later.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func anInterruptedCommand(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: true)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await halfWay(rig)
    try await ToldServer(rig).take()
    try await rig.ask { client in
      try await client.blockCommit(job: "gj-n0", device: "go-n0", base: "gq-n0")
      while try await client.queryJobs().first?.status != .ready {
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    try await OverlayRig.ask(rig.monitor) { client in
      let pivot = OverlayPivot(client) { said in
        guard said == "copying" else { return }
        _ = kill(getpid(), SIGHUP)
        // Another thread gets it, and that may be once the copy has ended.
        while !HeldSignals.wasCaught { usleep(1000) }
      }
      let disk = try #require(try await pivot.find("vd0"))
      await #expect(throws: GuestDiskError.self) {
        _ = try await pivot.attach(disk, to: ToldServer(rig), discard: true)
      }
      #expect(try await pivot.find("vd0")?.place == .overServer)
      #expect(try await client.queryJobs().isEmpty)
    }
    try await rig.write()
    #expect(try await rig.block("attach").status == 0)
    #expect(try await rig.guestReadsAll())
    try await rig.endsWhole(server)
  }

  /// A server that nobody has told that the disk is back serves nothing old.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func aServerThatWasNotTold(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: false)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await rig.serve()
    let snapshot = [
      "block", "snapshot", "disk.qcow2", "--manifest", rig.folder + "/manifest", "--socket",
      rig.socket,
    ]
    // Not while QEMU has the image.
    #expect(try await CommandProcess(snapshot).end().status == ExitStatus.refused.rawValue)
    #expect(try await rig.block("attach").status == 0)
    #expect(try await CommandProcess(snapshot).end().status == 0)
    try await rig.write()
    try await leave(rig, "detach", at: 3)
    #expect(try await rig.block("detach", "--control", rig.folder + "/nobody").status == 0)
    #expect(try await CommandProcess(snapshot).end().status == ExitStatus.refused.rawValue)
    try await rig.write()
    await rig.quit()
    #expect(try await rig.serverHasAll())
    await server.stop()
    #expect(server.exit == .code(0))
    #expect(try await rig.holdsAll(rig.image))
    rig.remove()
  }

  /// A file's node that goes with the format's would leave no way back.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func aNodeWithinAnother(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: false, nestsFile: true)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await rig.serve()
    try await rig.write()
    let refused = try await rig.block("attach")
    #expect(refused.status == ExitStatus.refused.rawValue, "\(refused.output)")
    #expect(try await rig.guestReadsAll() && !SmallFile.exists(rig.overlay))
    await server.stop()
    await rig.quit()
    rig.remove()
  }
}

/// A server that is told over its control socket, as the command tells it.
struct ToldServer: ImageServer {
  let socket: String
  let export = "disk.qcow2"

  init(_ rig: OverlayRig) { socket = rig.socket }

  func look() async throws { try await tell("look") }
  func take() async throws { try await tell("take") }
  func release() async throws { try await tell("release") }
  func rest() async throws { try await tell("rest") }

  private func tell(_ step: String) async throws {
    let path = socket + ".control"
    let line = #"{"block":1,"command":"lend","disk":"disk.qcow2","lending":"\#(step)"}"# + "\n"
    let answer = try await Blocking.run {
      let socket = try UnixSocket.connect(path: path)
      defer { socket.shutdown() }
      try socket.writeAll(Array(line.utf8).span.bytes)
      let buffer = PageBuffer(byteCount: 4096)
      let count = try socket.read(into: buffer.part(0, 4096))
      return String(decoding: buffer.part(0, count), as: UTF8.self)
    }
    if answer.contains("\"error\"") { throw SpawnError(program: "lend", detail: answer) }
  }
}
