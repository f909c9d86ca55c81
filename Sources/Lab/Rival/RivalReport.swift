import Agent
import QMP

/// What QEMU says of its migration, as Godwit reports its own.
struct RivalReport {
  let rival: Rival
  let session: GuestSession
  let info: MigrationInfo

  /// - Parameters:
  ///   - preparedMs: from the request until QEMU was told to migrate, in milliseconds.
  ///   - reason: why it was called off; nil when it was not.
  ///   - pagesBeforePostcopy: `pageCount` when it was told to go over to post-copy; nil: it was not.
  func record(
    preparedMs: UInt64, reason: String?, pagesBeforePostcopy: UInt64? = nil
  ) -> MigrationRecord {
    let isDone = info.status == .completed
    // One that was called off for its time has failed to be done in it.
    var record = MigrationRecord(outcome: isDone ? .completed : .failed, reason: reason)
    record.method = LabMethod.rival(rival).kind
    record.strategy = rival.rawValue
    record.vm = session.options.guest.name
    if !isDone { record.isGuestSafe = info.status != .postcopyPaused }
    record.totalMs = info.totalTimeMs.map { $0 + preparedMs }
    record.downtimeMs = info.downtimeMs
    // QEMU's own count; the lab puts the link's in its place where there is a link.
    record.wireBytes = info.ram?.transferred
    guard let ram = info.ram else { return record }
    record.pages.zero = ram.duplicate
    switch rival {
    case .multifdZstd: record.pages.compressed = ram.normal
    case .xbzrle:
      record.pages.raw = ram.normal
      record.pages.delta = info.xbzrleCache?["pages"]?.uint64
    default: record.pages.raw = ram.normal
    }
    if isDone, let pagesBeforePostcopy {
      var pull = MigrationRecord.Pull()
      let count = Self.pageCount(ram)
      pull.placedPages = count - min(pagesBeforePostcopy, count)
      // A fault asks for one page, and for none twice.
      pull.faultPages = ram.postcopyRequests
      record.pull = pull
    }
    return record
  }

  /// Pages that QEMU has sent, those of zeros included.
  static func pageCount(_ ram: MigrationInfo.RAM) -> UInt64 {
    let (count, overflow) = ram.normal.addingReportingOverflow(ram.duplicate)
    return overflow ? .max : count
  }

  func progress(elapsedMs: UInt64) -> MigrationProgress {
    let pass = info.ram?.dirtySyncCount ?? 0
    let phase: MigrationPhase =
      switch info.status {
      case .active: pass > 1 ? .iterate : .bulk
      case .device, .preSwitchover: .switchover
      case .postcopyActive: .commit
      default: .prepare
      }
    var progress = MigrationProgress(
      id: "qemu-\(session.label)", vm: session.options.guest.name,
      peer:
        "\(session.hosts.address(.destination)):\(QEMUMigration.firstPort + UInt16(session.number))",
      side: "source",
      phase: phase, strategy: rival.name)
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
