import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

extension BlockOverlayTests {
  /// A backup program's bitmap that QEMU would forget isn't lost without a word; one that is kept in the image goes on recording.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func dirtyBitmaps(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: false)
    defer { rig.guest.send(signal: SIGKILL) }
    func bitmaps(_ node: String) async throws -> [JSONValue] {
      try await rig.ask { client in
        let reply = try await client.execute("query-named-block-nodes", .object([:]))
        let found = (reply.array ?? []).first { $0["node-name"]?.string == node }
        return found?["dirty-bitmaps"]?.array ?? []
      }
    }
    func add(_ node: String, _ name: String, persistent: Bool) async throws {
      try await rig.ask { client in
        try await client.execute(
          "block-dirty-bitmap-add",
          [
            "node": .string(node), "name": .string(name), "persistent": .bool(persistent),
            "granularity": 65536,
          ])
      }
    }
    let server = try await rig.serve()
    try await add("n0", "kept", persistent: true)
    try await add("n0", "lost", persistent: false)
    let refused = try await rig.block("attach")
    #expect(refused.status == ExitStatus.refused.rawValue, "\(refused.output)")
    #expect(try await bitmaps("n0").count == 2 && !SmallFile.exists(rig.overlay))
    let there = try await rig.block("attach", "--drop-bitmaps")
    #expect(there.status == 0, "\(there.output)")
    try await rig.write()
    try await add("gq-n0", "lost", persistent: false)
    #expect(try await rig.block("detach").status == ExitStatus.refused.rawValue)
    #expect(try await rig.block("detach", "--drop-bitmaps").status == 0)
    let kept = try await bitmaps("n0")
    #expect(kept.map { $0["name"]?.string } == ["kept"])
    #expect(kept.first?["recording"] == true && kept.first?["inconsistent"] == nil)
    // Each of the four parts of a round lies in two of the bitmap's.
    #expect(kept.first?["count"]?.uint64 == 8 * 65536, "\(kept)")
    try await rig.endsWhole(server)
  }

  /// What a command leaves that dies while QEMU ends the copy, or is about to: a guest that goes on, by its guard.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus, [false, true])
  func aGuardedCopy(qemu: String, isHeld: Bool) async throws {
    let rig = try await OverlayRig(qemu, iothread: true)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await halfWay(rig)
    try await ToldServer(rig).take()
    let path = rig.folder + "/guard"
    let listener = try UnixSocket.listen(path: path)
    let guarding = try CommandProcess(["guard-copy", path, rig.monitor, "n0"])
    let connection = try await Blocking.run {
      try listener.accept(timeoutMs: 60_000)
    }
    try await rig.ask { client in
      try await client.blockCommit(job: "gj-n0", device: "go-n0", base: "gq-n0")
      while let job = try await client.queryJobs().first, job.status != .pending {
        if job.status == .ready {
          guard isHeld else { break }
          try? await client.jobComplete("gj-n0")
        }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    // The command dies.
    try #require(connection).shutdown()
    try await rig.write()
    #expect(await guarding.end().status == 0)
    try await rig.ask { client in
      #expect(
        try await !client.queryJobs().contains { $0.status == .pending || $0.status == .ready })
      let root = try await client.queryBlock().first?.node?.nodeName
      #expect(root == (isHeld ? "gq-n0" : "go-n0"))
    }
    #expect(SmallFile.exists(rig.overlay) == !isHeld)
    #expect(try await rig.block("attach").status == 0)
    #expect(try await rig.guestReadsAll())
    try await rig.endsWhole(server)
  }

  /// A command that is killed at any moment of the copy leaves no guest that waits.
  @Test(.timeLimit(.minutes(4)), arguments: BlockAttachTests.qemus)
  func aCommandKilledWhileItCopies(qemu: String) async throws {
    let rig = try await OverlayRig(qemu, iothread: true)
    defer { rig.guest.send(signal: SIGKILL) }
    let server = try await halfWay(rig)
    let command = try CommandProcess(
      ["block", "attach", "qmp:\(rig.monitor)", "vd0", "--socket", rig.socket])
    try await rig.ask { client in
      while try await client.queryJobs().first?.status != .ready {
        guard try await OverlayRig.place(client) != "gq-n0" else { return }
      }
    }
    command.send(signal: SIGKILL)
    _ = await command.end()
    for _ in 0..<3 { try await rig.write() }
    #expect(try await rig.guestReadsAll())
    #expect([0, ExitStatus.refused.rawValue].contains(try await rig.block("attach").status))
    try await rig.endsWhole(server)
  }
}
