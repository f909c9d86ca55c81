import Agent
import Base
import HostIO
import QMP

/// The rival: QEMU moves the guest by itself, over TCP between the two hosts.
///
/// Tuned as its documentation advises for a link like this: no bandwidth cap (the link is the cap),
/// the same downtime limit that Godwit gets.
struct QEMUMigration {
  static let port: UInt16 = 4444
  static let pollIntervalMs: UInt64 = 50

  let session: GuestSession
  let observer: any LabObserver

  /// Moves the session's guest. The destination's QEMU is handed back, running or not.
  func run() async throws -> (record: MigrationRecord, destination: GuestProcess) {
    let path = session.file("destination.qmp")
    let process = try GuestProcess.start(
      session.commandLine.destination,
      arguments: try session.destination(.destination, monitor: path), monitorPath: path,
      on: session.hosts, side: .destination, folder: session.folder)
    do {
      return (try await move(to: process), process)
    } catch {
      await process.process.terminate()
      throw LabError("\(error); destination: \(process.lastWords)")
    }
  }

  private func move(to destination: GuestProcess) async throws -> MigrationRecord {
    let incoming = try await destination.monitor()
    let outgoing = try await session.source.monitor()
    defer { incoming.client.close() }
    let uri = "tcp:\(session.hosts.address(.destination)):\(Self.port)"
    var parameters: [String: JSONValue] = [
      "downtime-limit": JSONValue(session.options.downtimeLimitMs)
    ]
    // 0: no limit. Without a link that is slow by itself, QEMU's own cap stands for it.
    let cap = session.hosts.kind == .namespaces ? 0 : session.hosts.linkBytesPerSecond
    parameters["max-bandwidth"] = JSONValue(cap)
    try await outgoing.client.migrateSetParameters(parameters)
    try await incoming.client.migrateIncoming(uri: uri)
    try await outgoing.client.migrate(uri: uri)
    let (info, reason) = try await follow(outgoing.client)
    // "completed" at the source is not yet "running" at the destination.
    if info.status == .completed { try await waitUntilRunning(incoming.client) }
    await outgoing.close()
    return record(info, reason: reason)
  }

  /// Polls until the end; cancels what takes too long.
  private func follow(_ client: QMPClient) async throws -> (MigrationInfo, String?) {
    let startMs = MonotonicClock.nowMs
    var reason: String?
    while true {
      let info = try await client.queryMigrate()
      let elapsedMs = MonotonicClock.nowMs - startMs
      if info.status.isFinal { return (info, reason ?? info.errorDescription) }
      await observer.progress(progress(info, elapsedMs: elapsedMs))
      if elapsedMs > session.options.timeoutMs, reason == nil {
        reason = "not finished after \(Milliseconds.format(session.options.timeoutMs))"
        try await client.migrateCancel()
      }
      try await Task.sleep(for: .milliseconds(Self.pollIntervalMs))
    }
  }

  private func waitUntilRunning(_ client: QMPClient) async throws {
    let startMs = MonotonicClock.nowMs
    while try await !client.queryStatus().isRunning {
      guard MonotonicClock.nowMs - startMs < 10_000 else {
        throw LabError("the destination's QEMU does not run the guest")
      }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  private func record(_ info: MigrationInfo, reason: String?) -> MigrationRecord {
    let outcome: MigrationRecord.Outcome =
      switch info.status {
      case .completed: .completed
      case .cancelled: .cancelled
      default: .failed
      }
    var record = MigrationRecord(outcome: outcome, reason: reason)
    record.method = LabOptions.Method.qemu.rawValue
    record.strategy = "precopy"
    record.totalMs = info.totalTimeMs
    record.downtimeMs = info.downtimeMs
    record.pages.zero = info.ram?.duplicate
    record.pages.raw = info.ram?.normal
    // QEMU's own count; the lab puts the link's in its place where there is a link.
    record.wireBytes = info.ram?.transferred
    return record
  }

  private func progress(_ info: MigrationInfo, elapsedMs: UInt64) -> MigrationProgress {
    let pass = info.ram?.dirtySyncCount ?? 0
    let phase: MigrationPhase =
      switch info.status {
      case .active: pass > 1 ? .iterate : .bulk
      case .device, .preSwitchover: .switchover
      default: .prepare
      }
    var progress = MigrationProgress(
      id: "qemu-\(session.label)", vm: session.options.guest.name,
      peer: "\(session.hosts.address(.destination)):\(Self.port)", side: "source", phase: phase,
      strategy: "QEMU alone")
    progress.elapsedMs = elapsedMs
    guard let ram = info.ram else { return progress }
    progress.ramBytes = ram.total
    progress.wireBytes = ram.transferred
    progress.wireBytesPerSecond = (ram.bitsPerSecond ?? 0) / 8
    progress.remainingBytes = ram.remaining
    progress.iteration = pass > 0 ? pass - 1 : 0
    progress.expectedDowntimeMs = info.expectedDowntimeMs
    if pass > 1 {
      let (dirty, overflow) = ram.dirtyPagesRate.multipliedReportingOverflow(by: ram.pageSize)
      progress.dirtyBytesPerSecond = overflow ? nil : dirty
    }
    let left = min(ram.remaining, ram.total)
    let (scaled, overflow) = (ram.total - left).multipliedReportingOverflow(by: 1000)
    progress.progressPermille = overflow || ram.total == 0 ? 0 : scaled / ram.total
    return progress
  }
}
