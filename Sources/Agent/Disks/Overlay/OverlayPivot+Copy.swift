import HostIO
import QMP

/// What is in the overlay is copied below it, and the overlay taken away from between.
extension OverlayPivot {
  /// No more than this may be left to copy when QEMU is asked to change over, in bytes: it holds the guest's requests for
  /// what is left at the end.
  private static let restMax: UInt64 = 4 << 20

  /// Until the copy has ended, well or not.
  ///
  /// QEMU that was asked to change over does so when the guest rests, whenever that is, and then holds its requests until
  /// it is told to go on. So whoever has asked doesn't go before that, or takes it back.
  func follow(_ disk: OverlayDisk, _ report: inout Report) async throws {
    let signals = HeldSignals()
    defer { signals.release() }
    var copyGuard: CopyGuard?
    // Without one the copy is as good, unless this program is killed in its last moment.
    do { copyGuard = try await guarding?(disk.name) } catch {
      tell("going on without a guard, which could not be started: \(error)")
    }
    defer { copyGuard?.dismiss() }
    tell("copying")
    try await follow(disk, { HeldSignals.wasCaught }, &report)
  }

  /// Whoever followed a copy has died. Nothing of it happens later, at some rest of the guest's: as when that one had been
  /// interrupted.
  func settleCopy(_ name: String) async throws {
    guard let disk = try await find(name), try await job(disk) != nil else { return }
    var report = Report()
    do {
      try await follow(disk, { true }, &report)
    } catch let error as GuestDiskError where error.isOnTheWay {}
  }

  private func follow(
    _ disk: OverlayDisk, _ isInterrupted: () -> Bool, _ report: inout Report
  ) async throws {
    var isTold = false
    // The last moment at which the guest's requests were carried out, as far as anybody knows; 0: none.
    var (openUs, lookUs): (UInt64, UInt64) = (0, MonotonicClock.nowUs)
    while let job = try await job(disk) {
      if job.status != .pending { openUs = lookUs }
      switch job.status {
      // Also when we haven't asked: somebody before us may have. It concludes with an error then.
      case .ready where isInterrupted(): await stop(disk)
      case .running where isInterrupted() && !isTold: throw interrupted(disk)
      case .ready where !isTold && job.owedBytes <= Self.restMax:
        isTold = true
        try await complete(disk, job)
      case .pending:
        try await finish(disk, job)
        if openUs != 0 { report.switchUs = max(report.switchUs, MonotonicClock.nowUs - openUs) }
        report.copiedBytes &+= job.currentProgress
      case .concluded:
        if let error = job.error { try await giveUp(disk, isInterrupted(), error) }
        return
      case .running, .ready, .other: break
      }
      try await Task.sleep(nanoseconds: isTold ? 1_000_000 : Self.pollNs)
      lookUs = MonotonicClock.nowUs
    }
    throw GuestDiskError.copyEnded(disk.name, detail: "QEMU has forgotten it")
  }

  private func complete(_ disk: OverlayDisk, _ job: JobInfo) async throws {
    do {
      try await client.jobComplete(job.id)
    } catch {
      // Somebody before us may have told it.
      if try await self.job(disk)?.status == .ready { throw error }
    }
  }

  /// What becomes of the copy the next look at it says.
  private func stop(_ disk: OverlayDisk) async {
    do { try await cancel(disk) } catch { tell("\(error)") }
  }

  private func giveUp(
    _ disk: OverlayDisk, _ isInterrupted: Bool, _ error: String
  ) async throws {
    try await restoreName(disk)
    guard isInterrupted else { throw GuestDiskError.copyEnded(disk.name, detail: error) }
    try await client.jobDismiss(disk.jobName)
    throw interrupted(disk)
  }

  /// The overlay holds nothing that isn't below it, and the guest's requests are held: takes it away. Its file loses its
  /// name first: once the guest writes past it, nobody may take it for the disk.
  private func finish(_ disk: OverlayDisk, _ job: JobInfo) async throws {
    do {
      try OverlayFile.setAside(disk.overlayPath)
    } catch {
      // Before the guest writes to it again. When that fails, too, it is tried again once the guest isn't held any more.
      if OverlayFile.isSetAside(disk.overlayPath) { try? OverlayFile.takeBack(disk.overlayPath) }
      try await client.jobCancel(job.id)
      throw error
    }
    try await client.jobFinalize(job.id)
  }

  func cancel(_ disk: OverlayDisk) async throws {
    try await client.blockJobCancel(job: disk.jobName, force: true)
    while let job = try await job(disk), job.status != .concluded {
      try await Task.sleep(nanoseconds: Self.pollNs)
    }
  }

  private func interrupted(_ disk: OverlayDisk) -> GuestDiskError {
    .onTheWay(
      disk.name, image: disk.path, overlay: disk.overlayPath, detail: "interrupted")
  }
}
