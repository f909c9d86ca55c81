import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// A guest's disks move with it: real QEMUs, the built agents, one commit.
@Suite(
  .serialized,
  .enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct DiskMigrationTests {
  static let qemus = BlockAttachTests.qemus

  /// While the disk is copied it is written to; in the end both images hold the same, and the guest goes on with its
  /// own at the destination.
  @Test(
    .timeLimit(.minutes(6)), arguments: qemus,
    [(DiskWishes.Method.auto, false), (.precopy, true), (.mirror, true)])
  func movesWithTheGuest(qemu: String, how: (method: DiskWishes.Method, iothread: Bool))
    async throws
  {
    let rig = try await DiskMigrationRig(qemu, iothread: how.iothread)
    var request = rig.request
    request.disks?.method = how.method
    request.disks?.paths = ["vd0": rig.copy]
    request.bandwidthBytesPerSecond = 8 << 20
    request.audit = true
    let move = Task { [request] in try await rig.migrate(request) }
    try await rig.untilCopying()
    // Behind the copier, before it, and where there was a hole.
    for (number, offset) in [0, 12 << 20, 28 << 20, 64 << 10, 31 << 20].enumerated() {
      try await rig.use("write -P \(number + 1) \(offset) 64k", at: rig.ownMonitor)
    }
    let record = try await move.value
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(record.audit.pagesDiffering == 0)
    #expect(record.disk.movedBytes == UInt64(rig.byteCount))
    #expect(record.disk.keptAtSource == [rig.image])
    #expect((record.disk.wireBytes ?? 0) > 1 << 20 && record.disk.pauseMs != nil)
    #expect((record.downtimeMs ?? 0) >= (record.disk.pauseMs ?? 0))
    #expect(try rig.contents(rig.image) == rig.contents(rig.copy))
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: rig.folder + "/there") == ["disk.raw"])
    // The disk is the destination's now, and only its.
    #expect(try await rig.withMonitor(rig.arrivedMonitor) { try await $0.queryStatus() }.isRunning)
    try await rig.use("write -P 9 0 64k", at: rig.arrivedMonitor)
    try await rig.use("flush", at: rig.arrivedMonitor)
    #expect(try rig.contents(rig.copy).prefix(65536).allSatisfy { $0 == 9 })
    #expect(try rig.contents(rig.image).prefix(65536).allSatisfy { $0 == 1 })
    await rig.end()
  }

  /// Memory that is the same as blocks of the disk refers to the copy that has just been made; nobody indexed anything.
  /// Whoever copies, QEMU or a server; and not where the user doesn't want it.
  @Test(
    .timeLimit(.minutes(6)), arguments: qemus,
    [(false, false), (true, false), (false, true)])
  func cachedBlocksComeFromTheCopy(qemu: String, how: (isServed: Bool, sendsAll: Bool))
    async throws
  {
    let cache = "/tmp/godwit-cache-\(UUID().uuidString.prefix(8))"
    defer { try? FileManager.default.removeItem(atPath: cache) }
    var random = SystemRandomNumberGenerator()
    var bytes = Data(capacity: 8 << 20)
    while bytes.count < 8 << 20 {
      withUnsafeBytes(of: random.next()) { bytes.append(contentsOf: $0) }
    }
    try bytes.write(to: URL(filePath: cache))
    let rig = try await DiskMigrationRig(
      qemu, more: ["-device", "loader,file=\(cache),addr=0x1800000,force-raw=on"])
    let server = how.isServed ? try await rig.attach() : nil
    // As a guest that has written a file, and has it in its page cache.
    try await rig.use("write -s \(cache) 1M 8M", at: rig.ownMonitor)
    var request = rig.request
    request.disks?.paths = ["vd0": rig.copy]
    request.disks?.sendsCachedBlocks = how.sendsAll ? true : nil
    request.audit = true
    let record = try await rig.migrate(request)
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(record.audit.pagesDiffering == 0)
    if how.sendsAll {
      #expect(record.pages.disk ?? 0 == 0)
    } else {
      // Of 2048; contents may push each other out at the source.
      #expect((record.pages.disk ?? 0) > 1900, "\(record.pages)")
      #expect(record.refetchedPages ?? 0 < 100)
    }
    #expect(try rig.contents(rig.copy)[1 << 20..<9 << 20] == bytes)
    await rig.end(server.map { [$0] } ?? [])
  }

  /// Two disks are one move: planned, copied, written to, and handed over together.
  @Test(.timeLimit(.minutes(6)), arguments: qemus, [DiskWishes.Method.auto, .mirror])
  func twoDisksMoveAsOne(qemu: String, method: DiskWishes.Method) async throws {
    let rig = try await DiskMigrationRig(qemu, hasSecond: true)
    var request = rig.request
    request.disks?.method = method
    request.disks?.paths = ["vd0": rig.copy, "vd1": rig.secondCopy]
    let planned = try #require(try await rig.client("a").plan(request).disks)
    #expect(planned.map(\.path).sorted() == [rig.copy, rig.secondCopy])
    #expect(planned.allSatisfy { !$0.isShared && ($0.takenBytes ?? 0) > 0 })
    request.bandwidthBytesPerSecond = 8 << 20
    let move = Task { [request] in try await rig.migrate(request) }
    try await rig.untilCopying()
    for (number, device) in ["vd1", "vd0", "vd1"].enumerated() {
      try await rig.use("write -P \(number + 1) \(number)M 64k", on: device, at: rig.ownMonitor)
    }
    let record = try await move.value
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(record.disk.movedBytes == UInt64(rig.byteCount + DiskMigrationRig.secondByteCount))
    #expect(record.disk.keptAtSource?.sorted() == [rig.image, rig.second])
    #expect(try rig.contents(rig.image) == rig.contents(rig.copy))
    #expect(try rig.contents(rig.second) == rig.contents(rig.secondCopy))
    try await rig.use("write -P 9 0 64k", on: "vd1", at: rig.arrivedMonitor)
    try await rig.use("flush", on: "vd1", at: rig.arrivedMonitor)
    #expect(try rig.contents(rig.secondCopy).prefix(65536).allSatisfy { $0 == 9 })
    await rig.end()
  }

  /// Whichever agent dies while the disk is copied, the guest goes on with its disk, and nothing stays at the
  /// destination or in QEMU.
  @Test(.timeLimit(.minutes(6)), arguments: qemus, ["a", "b"])
  func anAgentDies(qemu: String, side: String) async throws {
    let rig = try await DiskMigrationRig(qemu)
    var request = rig.request
    request.disks?.paths = ["n0": rig.copy]
    request.bandwidthBytesPerSecond = 2 << 20
    let move = Task { [request] in try await rig.migrate(request) }
    try await rig.untilCopying()
    try await rig.use("write -P 5 0 64k", at: rig.ownMonitor)
    rig.agents[side == "a" ? 0 : 1].send(signal: SIGKILL)
    if side == "b" {
      let record = try await move.value
      #expect(record.outcome == .failed && record.isGuestSafe != false, "\(record.reason ?? "")")
    } else {
      _ = try? await move.value
    }
    #expect(try await rig.withMonitor(rig.ownMonitor) { try await $0.queryStatus() }.isRunning)
    try await rig.use("write -P 6 64k 64k", at: rig.ownMonitor)
    let next = try DiskMigrationRig.startAgent(rig.folder, side)
    try await rig.untilAgentAnswers(side)
    // Recovery takes a moment.
    while true {
      let isClean = try await rig.withMonitor(rig.ownMonitor) { client in
        let nodes = try await client.queryBlockNodes().map(\.nodeName)
        return try await client.queryJobs().isEmpty && !nodes.contains { $0.hasPrefix("gw-m-") }
      }
      if isClean, !rig.isLeftBehind { break }
      try await Task.sleep(for: .milliseconds(50))
    }
    try await rig.use("flush", at: rig.ownMonitor)
    let bytes = try rig.contents(rig.image)
    #expect(bytes[0..<65536].allSatisfy { $0 == 5 } && bytes[65536..<131072].allSatisfy { $0 == 6 })
    await rig.end([next])
  }

  /// QEMU waits for the source's agent with the guest stopped. When that dies, the guest goes on without any agent.
  @Test(.timeLimit(.minutes(4)), arguments: qemus) func theAgentDiesInThePause(qemu: String)
    async throws
  {
    let rig = try await DiskMigrationRig(qemu, byteCount: 4 << 20, holdingDisks: true)
    var request = rig.request
    request.disks?.paths = ["n0": rig.copy]
    let move = Task { [request] in try await rig.migrate(request) }
    func state() async throws -> RunState {
      try await rig.withMonitor(rig.ownMonitor) { try await $0.queryStatus() }.state
    }
    func status() async throws -> MigrationStatus {
      try await rig.withMonitor(rig.ownMonitor) { try await $0.queryMigrate() }.status
    }
    while try await status() != .preSwitchover { try await Task.sleep(for: .milliseconds(5)) }
    #expect(try await state() != .running)
    rig.agents[0].send(signal: SIGKILL)
    _ = try? await move.value
    while try await state() != .running { try await Task.sleep(for: .milliseconds(5)) }
    #expect(try await status() == .cancelled)
    // The journal tells the next agent the rest.
    let next = try DiskMigrationRig.startAgent(rig.folder, "a")
    while rig.isLeftBehind { try await Task.sleep(for: .milliseconds(50)) }
    try await rig.use("write -P 5 0 64k", at: rig.ownMonitor)
    try await rig.use("flush", at: rig.ownMonitor)
    #expect(try rig.contents(rig.image).prefix(65536).allSatisfy { $0 == 5 })
    await rig.end([next])
  }

  /// Both hosts see the same file: nothing is copied, and nothing is left of the look.
  @Test(.timeLimit(.minutes(4)), arguments: qemus) func sharedDisksStay(qemu: String) async throws {
    let place = "/tmp/godwit-shared-\(UUID().uuidString.prefix(8))"
    try PrivateDirectory.make(place)
    defer { try? FileManager.default.removeItem(atPath: place) }
    let rig = try await DiskMigrationRig(qemu, byteCount: 4 << 20, destination: place + "/disk.raw")
    try rig.share(at: place)
    var request = rig.request
    request.disks?.paths = ["vd0": place + "/disk.raw"]
    let before = try rig.contents(rig.image)
    let record = try await rig.migrate(request)
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(record.disk.movedBytes == nil && record.disk.wireBytes == nil)
    #expect(try rig.contents(rig.image) == before)
    try await rig.untilNoProbeIsLeft()
    await rig.end()
  }

  /// What cannot be done is refused by name before anything begins, and leaves nothing.
  @Test(.timeLimit(.minutes(4)), arguments: qemus) func refusals(qemu: String) async throws {
    let iso = "/tmp/godwit-cd-\(UUID().uuidString.prefix(8)).iso"
    try Data(count: 1 << 20).write(to: URL(filePath: iso))
    defer { try? FileManager.default.removeItem(atPath: iso) }
    let rig = try await DiskMigrationRig(
      qemu, byteCount: 4 << 20,
      more: [
        "-blockdev", "file,node-name=c0,filename=\(iso),read-only=on", "-blockdev",
        "raw,node-name=cd,file=c0,read-only=on", "-device", "virtio-blk-pci,drive=cd,id=vcd",
      ])
    func refusal(_ change: (inout DiskWishes) -> Void) async throws -> String {
      var request = rig.request
      var wishes = DiskWishes()
      change(&wishes)
      request.disks = wishes
      let record = try await rig.migrate(request)
      #expect(record.outcome == .refused)
      return record.reason ?? ""
    }
    var reason = try await refusal { $0.names = ["sda"] }
    #expect(reason.contains("no disk called \"sda\"") && reason.contains("n0"), "\(reason)")
    // A file of the destination's that its guest's definition doesn't name is nobody's business.
    reason = try await refusal { wishes in
      wishes.names = ["n0"]
      wishes.paths = ["n0": rig.folder + "/there/other.raw"]
    }
    #expect(reason.contains("do not name"), "\(reason)")
    try Data(count: 4 << 20).write(to: URL(filePath: rig.copy))
    reason = try await refusal { wishes in
      wishes.names = ["n0"]
      wishes.paths = ["n0": rig.copy]
    }
    #expect(reason.contains("exists at the destination"), "\(reason)")
    #expect(try rig.contents(rig.copy).count == 4 << 20)
    try FileManager.default.removeItem(atPath: rig.copy)
    try await rig.untilNoProbeIsLeft()
    await rig.end()
  }
}
