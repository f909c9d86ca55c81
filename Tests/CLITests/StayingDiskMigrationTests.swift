import Foundation
import QMP
import Testing

@testable import Agent

/// Guests whose disks don't move with them: real QEMUs, the built agents.
@Suite(
  .serialized,
  .enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct StayingDiskMigrationTests {
  /// The destination has a copy that looks like the guest's disk, and lacks what the guest has written since.
  @Test(.timeLimit(.minutes(4)), arguments: DiskMigrationTests.qemus)
  func anOlderCopyIsRefused(qemu: String) async throws {
    let rig = try await DiskMigrationRig(qemu, byteCount: 4 << 20)
    try rig.contents(rig.image).write(to: URL(filePath: rig.copy))
    try await rig.use("write -P 5 0 64k", at: rig.ownMonitor)
    var request = rig.request
    request.disks = nil
    var record = try await rig.migrate(request)
    #expect(record.outcome == .refused)
    #expect(record.reason?.contains("is another file") == true, "\(record.reason ?? "")")
    #expect(try await rig.withMonitor(rig.ownMonitor) { try await $0.queryStatus() }.isRunning)
    try await rig.untilNoProbeIsLeft()
    // Somebody who knows better says so.
    var wishes = DiskWishes()
    (wishes.names, wishes.shared) = ([], ["vd0"])
    request.disks = wishes
    record = try await rig.migrate(request)
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(record.disk.movedBytes == nil)
    await rig.end()
  }

  /// A plan that can see it says it, and leaves nothing.
  @Test(.timeLimit(.minutes(4)), arguments: DiskMigrationTests.qemus)
  func aSharedDiskIsSeen(qemu: String) async throws {
    let place = "/tmp/godwit-stays-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: place) }
    let rig = try await DiskMigrationRig(qemu, byteCount: 4 << 20, destination: place + "/disk.raw")
    try rig.share(at: place)
    var request = rig.request
    request.disks = nil
    #expect(try await rig.client("a").plan(request).refusals.isEmpty)
    let record = try await rig.migrate(request)
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    try await rig.untilNoProbeIsLeft()
    await rig.end()
  }
}
