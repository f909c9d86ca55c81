import Foundation
import HostIO
import QMP
import Testing

@testable import Agent

/// A guest whose stream turns out to hold what Godwit can't follow. Before a move begins such guests are refused; but
/// while disks are copied, perhaps for hours, others may change what QEMU sends.
@Suite(
  .serialized,
  .enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct OpaqueStreamTests {
  /// A backup begins while the disk is copied: its dirty bitmap goes with QEMU's stream, which is passed through unread
  /// from there on. QEMU's own rule would decide then, and knows no time: with `--within` the guest stays.
  @Test(
    .timeLimit(.minutes(6)), arguments: BlockAttachTests.qemus, ["precopy", "timebound", "dsm"])
  func keepsNoTime(qemu: String, strategy: String) async throws {
    let rig = try await DiskMigrationRig(qemu)
    var request = rig.request
    request.strategy = strategy
    request.withinMs = 60_000
    request.disks?.paths = ["vd0": rig.copy]
    request.bandwidthBytesPerSecond = 8 << 20
    let record = try await moveBesideBackup(rig, request)
    #expect(record.outcome == .refused, "\(record.reason ?? "")")
    let reason = record.reason ?? ""
    #expect(reason.contains("--within") && reason.contains("passed through unread"), "\(reason)")
    #expect(record.isGuestSafe != false)
    #expect((record.totalMs ?? .max) < 60_000)
    // The guest goes on with its disk, and nothing of it stays at the destination.
    try await rig.withMonitor(rig.ownMonitor) { client in
      #expect(try await client.queryStatus().isRunning)
      let nodes = try await client.queryBlockNodes().map(\.nodeName)
      #expect(!nodes.contains { $0.hasPrefix("gw-m-") }, "\(nodes)")
    }
    try await rig.use("write -P 6 64k 64k", at: rig.ownMonitor)
    // The destination cleans up on its own, after the source has been told.
    while rig.isLeftBehind { try await Task.sleep(for: .milliseconds(20)) }
    await rig.end()
  }

  /// Without a time it is QEMU's affair, and the destination's QEMU says whether it takes that.
  @Test(.timeLimit(.minutes(6)), arguments: BlockAttachTests.qemus)
  func withoutATimeQEMUDecides(qemu: String) async throws {
    let rig = try await DiskMigrationRig(qemu)
    var request = rig.request
    request.strategy = "hotpages"
    request.disks?.paths = ["vd0": rig.copy]
    request.bandwidthBytesPerSecond = 8 << 20
    let record = try await moveBesideBackup(rig, request)
    #expect(record.outcome != .refused && record.isGuestSafe != false, "\(record.reason ?? "")")
    // Wherever it is, it runs there alone.
    let path = record.outcome == .completed ? rig.arrivedMonitor : rig.ownMonitor
    #expect(try await rig.withMonitor(path) { try await $0.queryStatus() }.isRunning)
    await rig.end()
  }

  private func moveBesideBackup(
    _ rig: DiskMigrationRig, _ request: MigrationRequest
  ) async throws -> MigrationRecord {
    let move = Task { try await rig.migrate(request) }
    try await rig.untilCopying()
    try await rig.withMonitor(rig.ownMonitor) { client in
      try await client.execute(
        "block-dirty-bitmap-add", ["node": "n0", "name": "backup0", "granularity": 65536])
      try await client.migrateSetCapabilities(["dirty-bitmaps": true])
    }
    return try await move.value
  }
}
