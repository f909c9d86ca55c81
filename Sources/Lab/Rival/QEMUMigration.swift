import Agent
import Base
import Glibc
import HostIO
import QMP

/// The rival: QEMU moves the guest by itself, over TCP between the two hosts, in one of its ways.
struct QEMUMigration {
  /// Of the first guest; those that move at the same time have the next ones.
  static let firstPort: UInt16 = 4444
  static let pollIntervalMs: UInt64 = 50
  /// While the end of the first pass is awaited, to flip to post-copy at once.
  static let flipIntervalMs: UInt64 = 10
  /// A guest whose memory is in two places can't be called back; nor does cancelling take for ever.
  static let graceMs: UInt64 = 120_000

  let rival: Rival
  let session: GuestSession
  let observer: any LabObserver

  private struct Followed {
    var info: MigrationInfo
    var reason: String?
    /// What became of the guest's disk; nil: both hosts share it, or it was not over when the memory was.
    var disk: RivalDisk.Copied?
    /// Pages sent when it was told to go over to post-copy; nil: it was not.
    var pagesBeforePostcopy: UInt64?
  }

  private var port: UInt16 { Self.firstPort + UInt16(session.number) }

  /// Moves the session's guest. The destination's QEMU is handed back, running or not.
  func run() async throws
    -> (record: MigrationRecord, startUs: UInt64, destination: GuestProcess)
  {
    let startUs = MonotonicClock.nowUs
    let path = session.file("destination.qmp")
    let disk = try RivalDisk.prepare(session)
    let process = try GuestProcess.start(
      session.commandLine.destination,
      arguments: try session.destination(.destination, monitor: path), monitorPath: path,
      on: session.hosts, side: .destination, folder: session.folder)
    do {
      let record = try await move(to: process, disk, startUs: startUs)
      return (record, startUs, process)
    } catch {
      await process.process.terminate()
      throw LabError("\(error); destination: \(process.lastWords)")
    }
  }

  /// - Parameters:
  ///   - disk: the guest's own, where it moves, too.
  ///   - startUs: when it was asked for; what goes before QEMU's own `total-time` counts too, as it
  ///     does for Godwit, which starts QEMU at the destination by itself.
  private func move(
    to destination: GuestProcess, _ disk: RivalDisk?, startUs: UInt64
  ) async throws -> MigrationRecord {
    let incoming = try await destination.monitor()
    let outgoing = try await session.source.monitor()
    defer { incoming.client.close() }
    try await configure(outgoing.client, incoming.client)
    if let disk {
      try await outgoing.client.migrateSetCapabilities(["pause-before-switchover": true])
      if let reason = try await disk.copy(from: outgoing.client, to: incoming.client) {
        await outgoing.close()
        return failure(reason, startUs: startUs)
      }
    }
    let uri = "tcp:\(session.hosts.address(.destination)):\(port)"
    try await incoming.client.migrateIncoming(uri: uri)
    let preparedMs = (MonotonicClock.nowUs - startUs) / 1000
    try await outgoing.client.migrate(uri: uri)
    let followed = try await follow(outgoing.client) {
      try await disk?.finish(outgoing.client, incoming.client)
    }
    // "completed" at the source is not yet "running" at the destination.
    if followed.info.status == .completed { try await waitUntilRunning(incoming.client) }
    await outgoing.close()
    let report = RivalReport(rival: rival, session: session, info: followed.info)
    var record = report.record(
      preparedMs: preparedMs, reason: followed.reason,
      pagesBeforePostcopy: followed.pagesBeforePostcopy)
    if disk != nil { record.disk.movedBytes = GuestDisk.size.bytes }
    record.disk.bytesReadAtSource = followed.disk?.copiedBytes
    record.disk.pauseMs = followed.disk?.pauseMs
    return record
  }

  /// Of a disk that was not copied in its time.
  private func failure(_ reason: String, startUs: UInt64) -> MigrationRecord {
    var record = MigrationRecord(outcome: .failed, reason: reason)
    record.method = LabMethod.rival(rival).kind
    record.strategy = rival.rawValue
    record.isGuestSafe = true
    record.totalMs = (MonotonicClock.nowUs - startUs) / 1000
    return record
  }

  private func configure(_ source: QMPClient, _ destination: QMPClient) async throws {
    let guest = session.options.guest
    let facts = RivalSettings.Facts(
      downtimeLimitMs: session.options.downtimeLimitMs,
      // Without a link that is slow by itself, QEMU's own cap stands for it.
      bandwidthCap: session.hosts.kind == .namespaces ? 0 : session.hosts.linkBytesPerSecond,
      memoryBytes: guest.memory.bytes, workingSetBytes: guest.workingSetBytes,
      processors: sysconf(Int32(_SC_NPROCESSORS_ONLN)),
      source: try await source.queryMigrateCapabilities(),
      destination: try await destination.queryMigrateCapabilities())
    var settings = try RivalSettings(rival, facts)
    settings.apply(session.options.tuning)
    for (client, isSource) in [(source, true), (destination, false)] {
      try await client.migrateSetCapabilities(settings.capabilities)
      try await client.migrateSetParameters(settings.parameters)
      guard isSource else { continue }
      try await client.migrateSetCapabilities(settings.sourceCapabilities)
      try await client.migrateSetParameters(settings.sourceParameters)
    }
  }

  /// Polls until the end; flips to post-copy after the first pass, cancels what takes too long.
  ///
  /// - Parameter atStop: what the stopped guest's disk needs, before its devices follow.
  private func follow(
    _ client: QMPClient, atStop: () async throws -> RivalDisk.Copied?
  ) async throws -> Followed {
    let movesDisk = session.movedDisk != nil
    var copied: RivalDisk.Copied?
    let startMs = MonotonicClock.nowMs
    var reason: String?
    var hasFlipped = rival != .postcopy
    var pagesBefore: UInt64?
    while true {
      let info = try await client.queryMigrate()
      let elapsedMs = MonotonicClock.nowMs - startMs
      if info.status.isFinal {
        return Followed(
          info: info, reason: reason ?? info.errorDescription, disk: copied,
          pagesBeforePostcopy: pagesBefore)
      }
      if info.status == .postcopyPaused {
        return Followed(
          info: info,
          reason: "post-copy lost its connection: \(info.errorDescription ?? "no reason given")",
          disk: copied, pagesBeforePostcopy: pagesBefore)
      }
      if info.status == .preSwitchover, copied == nil, movesDisk {
        copied = try await atStop()
        try await client.migrateContinue()
        continue
      }
      await observer.progress(
        RivalReport(rival: rival, session: session, info: info).progress(elapsedMs: elapsedMs))
      // 1: the pass over all of memory; 2: QEMU has looked at the dirty log again.
      if !hasFlipped, info.status == .active, (info.ram?.dirtySyncCount ?? 0) > 1 {
        hasFlipped = true
        if try await flip(client) { pagesBefore = info.ram.map(RivalReport.pageCount) }
      }
      let isCancellable = info.status != .postcopyActive
      if elapsedMs > session.options.timeoutMs, reason == nil, isCancellable {
        reason = LabRun.notFinished(session.options)
        try await client.migrateCancel()
      }
      guard elapsedMs < session.options.timeoutMs + Self.graceMs else {
        throw LabError("\(rival.name) neither ends nor can be cancelled (\(info.status))")
      }
      try await Task.sleep(
        // A guest that stopped waits for whoever ends its disk's copy.
        for: .milliseconds(hasFlipped && !movesDisk ? Self.pollIntervalMs : Self.flipIntervalMs))
    }
  }

  /// False: the migration has just ended by itself, and has no use for it. That is no failure.
  private func flip(_ client: QMPClient) async throws -> Bool {
    do {
      try await client.migrateStartPostcopy()
      return true
    } catch {
      guard try await client.queryMigrate().status.isFinal else { throw error }
      return false
    }
  }

  private func waitUntilRunning(_ client: QMPClient) async throws {
    let startMs = MonotonicClock.nowMs
    while try await !client.queryStatus().isRunning {
      guard MonotonicClock.nowMs - startMs < 60_000 else {
        throw LabError("the destination's QEMU does not run the guest")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }
}
