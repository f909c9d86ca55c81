import Foundation
import Glibc
import HostIO
import QMP
import Testing

@testable import Agent

/// Guests whose operator pauses them, or lets them go on, while they are copied: they arrive as they were right before
/// QEMU stopped them. Real QEMUs, the built agents; the disk gives the operator time.
@Suite(
  .serialized,
  .enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct PausedGuestTests {
  static let qemus = BlockAttachTests.qemus

  private func request(_ rig: DiskMigrationRig) -> MigrationRequest {
    var request = rig.request
    request.disks?.paths = ["vd0": rig.copy]
    request.bandwidthBytesPerSecond = 8 << 20
    return request
  }

  private func isRunning(_ rig: DiskMigrationRig, at path: String) async throws -> Bool {
    try await rig.withMonitor(path) { try await $0.queryStatus() }.isRunning
  }

  @Test(.timeLimit(.minutes(6)), arguments: qemus, [true, false])
  func arrivesAsItWasBeforeItsStop(qemu: String, isPaused: Bool) async throws {
    let rig = try await DiskMigrationRig(qemu)
    if !isPaused { try await rig.withMonitor(rig.ownMonitor) { try await $0.stop() } }
    let move = Task { try await rig.migrate(request(rig)) }
    try await rig.untilCopying()
    try await rig.withMonitor(rig.ownMonitor) { client in
      if isPaused { try await client.stop() } else { try await client.cont() }
    }
    let record = try await move.value
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(try await isRunning(rig, at: rig.arrivedMonitor) == !isPaused)
    await rig.end()
  }

  /// The destination's agent dies after it has loaded everything; the one after it knows from the journal.
  @Test(.timeLimit(.minutes(6)), arguments: qemus)
  func isKeptOverTheDeathOfTheDestinationsAgent(qemu: String) async throws {
    let rig = try await DiskMigrationRig(qemu, holdingCommit: true)
    let move = Task { try await rig.migrate(request(rig)) }
    try await rig.untilCopying()
    try await rig.withMonitor(rig.ownMonitor) { try await $0.stop() }
    while try await rig.client("a").status().first?.phase != .commit {
      try await Task.sleep(for: .milliseconds(10))
    }
    rig.agents[1].send(signal: SIGKILL)
    _ = await rig.agents[1].wait()
    let again = try DiskMigrationRig.startAgent(rig.folder, "b")
    let record = try await move.value
    #expect(record.outcome == .completed, "\(record.reason ?? "")")
    #expect(try await !isRunning(rig, at: rig.arrivedMonitor))
    await rig.end([again])
  }

  /// A migration that comes to nothing changes nothing of that.
  @Test(.timeLimit(.minutes(6)), arguments: qemus)
  func staysPausedWhenItIsCancelled(qemu: String) async throws {
    let rig = try await DiskMigrationRig(qemu, holdingCommit: true)
    let move = Task { try await rig.migrate(request(rig)) }
    try await rig.untilCopying()
    try await rig.withMonitor(rig.ownMonitor) { try await $0.stop() }
    while try await rig.client("a").status().first?.phase != .commit {
      try await Task.sleep(for: .milliseconds(10))
    }
    try await rig.client("a").cancel(vm: "qmp:\(rig.monitor)")
    let record = try await move.value
    #expect(record.outcome == .cancelled, "\(record.reason ?? "")")
    #expect(try await !isRunning(rig, at: rig.ownMonitor))
    await rig.end()
  }
}
