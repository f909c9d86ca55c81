import BlockStore
import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// A guest's disk that is behind Godwit's server moves with it: real QEMUs, the built agents and servers, one commit.
@Suite(
  .serialized,
  .enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct ServedDiskMigrationTests {
  /// Old and new QEMUs in turn: what differs between methods is the server's.
  static let methods: [(String, DiskWishes.Method)] = zip(
    [DiskWishes.Method.iofollow, .auto, .waio, .snapmig, .incremental], 0...
  ).compactMap { method, number in qemu(number).map { ($0, method) } }
  static let sides: [(String, String)] = zip(["a", "b"], 0...).compactMap { side, number in
    qemu(number).map { ($0, side) }
  }

  /// nil: there is none at all.
  private static func qemu(_ number: Int) -> String? {
    let all = BlockAttachTests.qemus
    return all.isEmpty ? nil : all[number % all.count]
  }

  /// While the server moves the disk it is written to; in the end both images hold the same, and the guest goes on with
  /// its own at the destination, behind no server.
  @Test(.timeLimit(.minutes(6)), arguments: methods)
  func movesWithTheGuest(qemu: String, method: DiskWishes.Method) async throws {
    let rig = try await DiskMigrationRig(qemu, iothread: method == .iofollow)
    let server = try await rig.attach()
    var request = rig.request
    request.disks?.method = method
    request.disks?.paths = ["vd0": rig.copy]
    request.bandwidthBytesPerSecond = 8 << 20
    request.audit = true
    var others = [server]
    switch method {
    case .waio: request.disks?.surrogate = try rig.surrogate()
    case .snapmig:
      let (manifest, uri, backups) = try await rig.backUp()
      request.disks?.manifest = manifest
      request.disks?.backups = [uri]
      others.append(backups)
    case .incremental: request.disks?.baseManifest = try await rig.olderCopy()
    default: break
    }
    let move = Task { [request] in try await rig.migrate(request) }
    try await rig.untilCopying()
    let written = try await rig.writeWhileCopying()
    let record = try await move.value
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(record.audit.pagesDiffering == 0)
    #expect(record.disk.movedBytes == UInt64(rig.byteCount))
    #expect(record.disk.keptAtSource == [rig.image])
    #expect((record.disk.wireBytes ?? 0) > 1 << 20 && record.disk.pauseMs != nil)
    #expect(record.disk.bytesReadAtSource != nil)
    let status = try await rig.served()
    #expect(status.phase == .copied)
    #expect(status.method.map { "\($0)" } == (method == .auto ? "precopy" : method.rawValue))
    if method == .snapmig { #expect((status.backupBytes ?? 0) > 1 << 20) }
    if method == .incremental { #expect((status.skippedBytes ?? 0) > 4 << 20) }
    // What a surrogate has comes back, though nobody uses the disk here any more.
    while try await rig.served().surrogate != nil { try await Task.sleep(for: .milliseconds(20)) }
    let copy = try rig.contents(rig.copy)
    #expect(try rig.contents(rig.image) == copy)
    for (part, value) in written {
      #expect(copy[(part << 16)..<((part + 1) << 16)].allSatisfy { $0 == value }, "part \(part)")
    }
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: rig.folder + "/there") == ["disk.raw"])
    #expect(try await rig.withMonitor(rig.arrivedMonitor) { try await $0.queryStatus() }.isRunning)
    try await rig.use("write -P 9 0 64k", at: rig.arrivedMonitor)
    try await rig.use("flush", at: rig.arrivedMonitor)
    #expect(try rig.contents(rig.copy).prefix(65536).allSatisfy { $0 == 9 })
    #expect(try rig.contents(rig.image).prefix(65536).allSatisfy { $0 == written[0] })
    await rig.end(others)
  }

  /// What the guest sees of a qcow2 image is a raw one at the destination, which has to be named.
  @Test(.timeLimit(.minutes(6))) func aQcow2DiskArrivesRaw() async throws {
    // Large enough to be under way still when somebody has seen that it is.
    let rig = try await DiskMigrationRig(
      try #require(BlockAttachTests.qemus.last), byteCount: 16 << 20, format: "qcow2")
    let server = try await rig.attach()
    let refused = try await rig.migrate(rig.request)
    #expect(refused.outcome == .refused && refused.reason?.contains("--disk-map n0=") == true)
    var request = rig.request
    request.disks?.method = .iofollow
    request.disks?.paths = ["n0": rig.copy]
    request.bandwidthBytesPerSecond = 4 << 20
    let move = Task { [request] in try await rig.migrate(request) }
    try await rig.untilCopying()
    let written = try await rig.writeWhileCopying()
    let record = try await move.value
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    let copy = try rig.contents(rig.copy)
    for (part, value) in written {
      #expect(copy[(part << 16)..<((part + 1) << 16)].allSatisfy { $0 == value }, "part \(part)")
    }
    await server.stop()
    try await OverlayRig.run("qemu-img", "compare", "-F", "raw", rig.image, rig.copy)
    await rig.end()
  }

  /// Whichever agent dies while the server moves the disk, the guest goes on with it, nothing stays at the destination,
  /// and the server is told that it is over.
  @Test(.timeLimit(.minutes(6)), arguments: sides)
  func anAgentDies(qemu: String, side: String) async throws {
    let rig = try await DiskMigrationRig(qemu)
    let server = try await rig.attach()
    var request = rig.request
    request.disks?.method = .iofollow
    request.disks?.paths = ["n0": rig.copy]
    request.bandwidthBytesPerSecond = 2 << 20
    let move = Task { [request] in try await rig.migrate(request) }
    try await rig.untilCopying()
    try await rig.use("write -P 5 0 64k", at: rig.ownMonitor)
    // Nobody sends the guest's requests to a destination that may be taken back.
    let switched = try await CommandProcess(["block", "finish", "x", "--socket", rig.socket]).end()
    #expect(switched.status == Agent.ExitStatus.refused.rawValue, "\(switched)")
    rig.agents[side == "a" ? 0 : 1].send(signal: SIGKILL)
    if side == "b" {
      let record = try await move.value
      #expect(record.outcome == .failed && record.isGuestSafe != false, "\(record.reason ?? "")")
    } else {
      _ = try? await move.value
    }
    try await rig.use("write -P 6 64k 64k", at: rig.ownMonitor)
    let next = try DiskMigrationRig.startAgent(rig.folder, side)
    try await rig.untilAgentAnswers(side)
    while try await rig.served().phase != .cancelled || rig.isLeftBehind {
      try await Task.sleep(for: .milliseconds(50))
    }
    try await rig.checkIsWhole()
    await rig.end([next, server])
  }

  /// The migration is taken back when the destination has all of the disk already: the guest goes on with its own, behind
  /// its server as before, and can move again.
  @Test(.timeLimit(.minutes(6))) func takenBackAtTheLastMoment() async throws {
    let rig = try await DiskMigrationRig(
      try #require(BlockAttachTests.qemus.last), byteCount: 4 << 20, holdingCommit: true)
    let server = try await rig.attach()
    var request = rig.request
    request.disks?.paths = ["n0": rig.copy]
    try await rig.use("write -P 5 0 64k", at: rig.ownMonitor)
    let move = Task { [request] in try await rig.migrate(request) }
    while try await rig.client("a").status().first?.phase != .commit {
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(try await rig.served().phase == .copied)
    try await rig.client("a").cancel(vm: request.vm)
    let record = try await move.value
    #expect(record.outcome == .cancelled, "\(record.reason ?? "")")
    #expect(try await rig.withMonitor(rig.ownMonitor) { try await $0.queryStatus() }.isRunning)
    try await rig.use("write -P 6 64k 64k", at: rig.ownMonitor)
    while rig.isLeftBehind { try await Task.sleep(for: .milliseconds(20)) }
    try await rig.checkIsWhole()
    await rig.end([server])
  }

  /// What cannot be done is refused by name before anything begins.
  @Test(.timeLimit(.minutes(4))) func refusals() async throws {
    let rig = try await DiskMigrationRig(
      try #require(BlockAttachTests.qemus.last), byteCount: 4 << 20)
    func refusal(_ method: DiskWishes.Method = .iofollow) async throws -> String {
      var request = rig.request
      request.disks?.method = method
      if method == .incremental { request.disks?.baseManifest = "/none" }
      request.disks?.paths = ["n0": rig.copy]
      let record = try await rig.migrate(request)
      #expect(record.outcome == .refused)
      // The destination cleans up on its own, after the source has been told.
      while rig.isLeftBehind { try await Task.sleep(for: .milliseconds(20)) }
      return record.reason ?? ""
    }
    var reason = try await refusal()
    #expect(reason.contains("behind no server") && reason.contains("iofollow"), "\(reason)")
    #expect(reason.contains("godwit block attach VM n0"), "\(reason)")
    let server = try await rig.attach()
    reason = try await refusal(.incremental)
    #expect(reason.contains("no older copy"), "\(reason)")
    // Another move of the disk isn't disturbed.
    let copy = rig.folder + "/elsewhere.sock"
    try Data(count: 4 << 20).write(to: URL(filePath: rig.folder + "/elsewhere.raw"))
    let there = try await rig.serve([rig.folder + "/elsewhere.raw", "--socket", copy], at: copy)
    let moved = try await CommandProcess(
      ["block", "move", "x", "nbd+unix:///elsewhere.raw?socket=\(copy)", "--then", "wait"]
        + ["--socket", rig.socket]
    ).end()
    #expect(moved.status == 0)
    reason = try await refusal()
    #expect(reason.contains("mirroring already"), "\(reason)")
    server.send(signal: SIGKILL)
    _ = await server.wait()
    reason = try await refusal()
    #expect(reason.contains("takes no orders") && reason.contains(rig.socket), "\(reason)")
    await rig.end([there])
  }
}

extension DiskMigrationRig {
  /// Of the disk's server.
  var socket: String { folder + "/nbd.sock" }

  func serve(_ arguments: [String], at socket: String) async throws -> ChildProcess {
    let binary = try #require(CommandProcess.binary)
    let server = try ChildProcess(binary, ["block", "serve"] + arguments)
    while (try? UnixSocket.connect(path: socket + ".control")) == nil {
      guard server.exit == nil else { throw SystemError("serve at \(socket)", code: ECHILD) }
      try await Task.sleep(for: .milliseconds(10))
    }
    return server
  }

  /// Puts the guest's disk behind a server.
  func attach() async throws -> ChildProcess {
    let server = try await serve(
      ["--in-use", "--format", format, image, "--socket", socket, "--export-name", "x"], at: socket)
    let attached = try await CommandProcess(
      ["block", "attach", "qmp:\(ownMonitor)", "vd0", "--socket", socket]
    ).end()
    try #require(attached.status == 0, "\(attached)")
    return server
  }

  /// What the server says of the disk's move.
  func served() async throws -> MoveStatus {
    let client = BlockClient(path: socket + BlockClient.suffix)
    return try #require(try await client.ask(BlockRequest(.status, disk: "x")).first)
  }

  /// Writes parts of 64 KiB as the guest would until the memory's turn comes: behind the copier, before it, where there
  /// was a hole, and some more than once. Says what each has been written with last.
  func writeWhileCopying() async throws -> [Int: UInt8] {
    var written: [Int: UInt8] = [:]
    var (value, part) = (UInt8(1), 0)
    let partCount = byteCount >> 16
    let least = UInt64(byteCount) / 16
    repeat {
      try await use("write -P \(value) \(part << 16) 64k", at: ownMonitor)
      written[part] = value
      value = value % 250 + 1
      part = (part + 151) % partCount
      if value == 20 { part = 0 }
      // The guest must have stopped writing when QEMU stops it.
      guard let look = try await client("a").status().first, look.phase == .disks else { break }
      if look.diskRemainingBytes ?? 0 < least { break }
    } while true
    try #require(!written.isEmpty)
    return written
  }

  func surrogate() throws -> String {
    let path = folder + "/surrogate"
    try Data().write(to: URL(filePath: path))
    guard truncate(path, 32 << 20) == 0 else { throw SystemError("make a surrogate") }
    return path
  }

  /// Has a copy at the destination that lacks 8 MiB, and makes its manifest.
  func olderCopy() async throws -> String {
    var bytes = try contents(image)
    bytes.replaceSubrange((2 << 20)..<(10 << 20), with: Data(count: 8 << 20))
    try bytes.write(to: URL(filePath: copy))
    let manifest = folder + "/base.manifest"
    let made = try await CommandProcess(["block", "manifest", copy, "--output", manifest]).end()
    try #require(made.status == 0, "\(made)")
    return manifest
  }

  /// Takes a snapshot of the disk and serves a copy of it: a manifest, the copy's URI, and its server.
  func backUp() async throws -> (String, String, ChildProcess) {
    let (manifest, backup, place) = (
      folder + "/manifest", folder + "/backup.raw", folder + "/backup.sock"
    )
    let taken = try await CommandProcess(
      ["block", "snapshot", "x", "--manifest", manifest, "--socket", socket]
    ).end()
    try #require(taken.status == 0, "\(taken)")
    try FileManager.default.copyItem(atPath: image, toPath: backup)
    let server = try await serve([backup, "--socket", place, "--export-name", "b"], at: place)
    return (manifest, "nbd+unix:///b?socket=\(place)", server)
  }

  /// Whether the disk has what was written to it, goes on being written to behind its server, and may be taken back from
  /// there: nothing moves any more.
  func checkIsWhole() async throws {
    #expect(try await withMonitor(ownMonitor) { try await $0.queryStatus() }.isRunning)
    try await use("write -P 7 128k 64k", at: ownMonitor)
    try await use("flush", at: ownMonitor)
    let detached = try await CommandProcess(["block", "detach", "qmp:\(ownMonitor)", "n0"]).end()
    #expect(detached.status == 0, "\(detached)")
    let bytes = try contents(image)
    for (part, value) in [UInt8(5), 6, 7].enumerated() {
      #expect(bytes[(part << 16)..<((part + 1) << 16)].allSatisfy { $0 == value }, "part \(part)")
    }
  }
}
