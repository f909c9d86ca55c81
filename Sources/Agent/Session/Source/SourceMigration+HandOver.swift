import Base
import HostIO
import Logging
import QMP

/// The disks of a guest that has stopped, on their last way.
struct DiskHandOver: Sendable {
  let startedMs: UInt64
  /// Every block was written and answered; the destination puts them on stable storage.
  var isClosing = false
}

// Between the guest's stop and its last pages: the disks are completed at the destination, before QEMU there may
// take them over.
extension SourceMigration {
  /// The guest waits: QEMU is asked more often.
  static let handOverIntervalMs: UInt64 = 2
  /// How often copies are looked at that go on beside the memory.
  static let followIntervalMs: UInt64 = 500

  /// Has QEMU's wait for our word put into the mailbox.
  func watchForPause(_ client: QMPClient) {
    let events = client.events()
    Task { [mailbox] in
      for await event in events
      where event.name == "MIGRATION"
        && event.data["status"]?.string == MigrationStatus.preSwitchover.name
      {
        mailbox.put(.paused)
      }
    }
  }

  /// QEMU has stopped the guest; told more than once, only the first time counts.
  func beginHandOver(_ handOver: inout DiskHandOver?, _ setup: Setup) {
    guard state.read({ $0.pausedAtMs == nil }) else { return }
    let now = MonotonicClock.nowMs
    note { $0.pausedAtMs = now }
    setup.link.lane.setSilenceLimit(ms: PeerLink.stoppedSilenceLimitMs)
    handOver = DiskHandOver(startedMs: now)
  }

  /// The next step of a hand-over; before one, a look at the copies now and then.
  func advance(_ handOver: inout DiskHandOver?, _ setup: Setup, _ copy: Copy) async throws {
    guard let disks = copy.disks else { return }
    let now = MonotonicClock.nowMs
    guard let current = handOver else {
      let isDue = state.update { state in
        guard state.pausedAtMs == nil, now >= state.disksLookedAtMs + Self.followIntervalMs else {
          return false
        }
        state.disksLookedAtMs = now
        return true
      }
      if isDue { noteDisks(try await disks.look(), disks) }
      return
    }
    guard now < current.startedMs + Self.switchoverTimeoutMs else {
      throw Ending.failed(
        "the disks are not complete after \(Milliseconds.format(Self.switchoverTimeoutMs))")
    }
    guard !current.isClosing, try await disks.finish() else { return }
    handOver?.isClosing = true
    try setup.link.send(.closeDisks)
  }

  /// The disks are whole at the destination, on stable storage: the rest of the guest may follow.
  func endHandOver(_ handOver: DiskHandOver?, _ setup: Setup, _ copy: Copy) async throws {
    guard let handOver, handOver.isClosing, let disks = copy.disks else {
      throw Ending.failed("\(request.destination) closed disks that are not complete")
    }
    disks.cut()
    let now = MonotonicClock.nowMs
    note { state in
      state.progress.diskRemainingBytes = 0
      state.record.disk.wireBytes = disks.sentBytes
      state.record.disk.movedBytes = disks.byteCount
      state.record.disk.pauseMs = now - handOver.startedMs
      state.record.disk.keptAtSource = disks.disks.map(\.claim.sourcePath)
    }
    logger.info("the disks are complete", metadata: ["pauseMs": "\(now - handOver.startedMs)"])
    try await setup.monitor.client.migrateContinue()
    copy.pauseGuard?.dismiss()
  }

  /// Copies of disks do not outlive a connection: until they are complete, its break is the end.
  func checkDiskConnection(_ isUp: Bool, _ copy: Copy) throws {
    guard !isUp, copy.disks != nil, state.read({ $0.record.disk.pauseMs == nil }) else { return }
    throw Ending.failed(
      "the connection to \(request.destination) broke while the guest's disks were copied")
  }
}
