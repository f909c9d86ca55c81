import Base
import HostIO
import Logging
import QEMUStream
import QMP
import Strategy

/// What QEMU, the lanes and the ledger say while pages move, and what QEMU's own rule makes of it.
extension SourceMigration {
  /// How far QEMU says it is; nil when its monitor is busy or it has nothing to say yet.
  func askQEMU(_ setup: Setup) async throws -> MigrationInfo.RAM? {
    let info: MigrationInfo
    do { info = try await setup.monitor.client.queryMigrate(timeoutMs: 5000) } catch {
      // A busy monitor is no reason to give up; a closed one arrives as `qemuGone`.
      logger.debug("query-migrate", metadata: ["error": "\(error)"])
      return nil
    }
    if info.status.isFinal {
      // Why, that stands in what came before, and wasn't taken yet on a busy host: it goes first.
      guard mailbox.count == 0 else { return nil }
      throw Ending.failed("QEMU ended the migration: \(info.errorDescription ?? info.status.name)")
    }
    // Should its event have been lost.
    if info.status == .preSwitchover { mailbox.put(.paused) }
    return info.ram
  }

  /// Looks at QEMU and the lanes, and carries out what QEMU's own rule needs.
  func sample(
    _ setup: Setup, _ copy: Copy, _ strategy: inout PrecopyMachine
  ) async throws {
    guard let ram = try await askQEMU(setup) else { return }
    let flow = copy.relay.queue.snapshot
    // QEMU reckons in bytes of pages: so must the link's rate, whatever the pages are made into.
    let ratio = flow.counters.packing
    let rate = flow.rate.flatMap {
      ByteRate(bytesPerSecond: $0.bytesPerSecond.scaled(by: ratio.pageBytes, over: ratio.wireBytes))
    }
    let owed = UInt64(copy.relay.ledger.state.read { $0.owedCount }) * UInt64(Page.size)
    let queued = flow.queuedBytes + owed
    var sample = MigrationSample(
      nowMs: MonotonicClock.nowMs, ram: ByteCount(ram.total), remaining: ByteCount(ram.remaining),
      dirtyRate: ByteRate(
        bytesPerSecond: ram.dirtyPagesRate.multipliedReportingOverflow(by: ram.pageSize)
          .partialValue),
      pass: ram.dirtySyncCount, wireRate: rate,
      inFlight: ByteCount(
        flow.inFlight.scaled(by: ratio.pageBytes, over: ratio.wireBytes) + queued))
    let left = min(ram.remaining, ram.total)
    let (pages, done) = (ram.total / UInt64(Page.size), (ram.total - left) / UInt64(Page.size))
    sample.contents = setup.contents.map {
      ByteCount($0.contentPages(from: done, of: pages) * UInt64(Page.size))
    }
    let expected = strategy.expectedDowntimeMs(sample)
    note { state in
      state.estimator.handle(sample, expectedDowntimeMs: expected)
      state.progress.remainingBytes = ram.remaining
      state.progress.workingSetBytes = state.estimator.workingSet.bytes
      state.progress.dirtyBytesPerSecond = sample.dirtyRate?.bytesPerSecond
      state.progress.iteration = ram.dirtySyncCount
      state.progress.expectedDowntimeMs = expected
    }
    noteWire(setup, copy)
    if ram.dirtySyncCount >= 2, progress.phase == .bulk { try await enter(.iterate) }
    for effect in strategy.handle(sample) { try await carryOut(effect, setup, copy) }
    report()
  }

  private func carryOut(_ effect: StrategyEffect, _ setup: Setup, _ copy: Copy) async throws {
    let client = setup.monitor.client
    switch effect {
    case .limitDowntime(let ms):
      try await client.migrateSetParameters(["downtime-limit": JSONValue(ms)])
    case .pinBandwidth(let rate):
      guard copy.pinsBandwidth else { return }
      try await client.migrateSetParameters(
        ["avail-switchover-bandwidth": JSONValue(rate.bytesPerSecond)])
    case .releaseSwitchover:
      if copy.holdsByAck { try copy.relay.answer(.switchoverAck) }
    }
  }

  func noteWire(_ setup: Setup, _ copy: Copy) {
    let diskBytes = copy.disks?.sentBytes
    let bytes = copy.relay.wireBytes + (diskBytes ?? 0)
    let counters = copy.relay.queue.snapshot.counters
    let (stopSet, superseded, invalid) = copy.relay.ledger.state.read {
      ($0.stopSetPages, $0.ledger?.supersededCount, $0.invalidPages)
    }
    let condition = setup.link.lane.condition
    let retries = UInt64(condition.breaks + copy.relay.breaks)
    let now = MonotonicClock.nowMs
    note { state in
      state.record.retries = retries
      (state.record.stopSetPages, state.record.supersededPages) = (stopSet, superseded)
      if let invalid, state.record.pull == nil {
        state.record.pull = .init()
        state.record.pull?.owedPages = invalid
      }
      state.progress.retries = retries
      state.progress.isConnected = condition.isConnected
      state.record.wireBytes = bytes
      state.record.disk.wireBytes = diskBytes
      state.record.pages = .init(
        counters, isCompacted: copy.relay.encodeMs != nil, mayBeHeld: copy.relay.mayBeHeld,
        mayBeElsewhere: copy.relay.mayBeElsewhere, isInGang: copy.relay.isInGang)
      (state.record.encodeMs, state.record.refetchedPages) = (
        copy.relay.encodeMs, copy.relay.refetchedPages
      )
      state.progress.wireBytes = bytes
      guard let last = state.lastWire else { return state.lastWire = (now, bytes) }
      guard now >= last.atMs + 500 else { return }
      state.progress.wireBytesPerSecond = (bytes - last.bytes) * 1000 / (now - last.atMs)
      state.lastWire = (now, bytes)
    }
  }
}

extension MigrationRecord.Pages {
  /// - Parameters:
  ///   - isCompacted: pages that were not made smaller could have been.
  ///   - mayBeHeld: the destination has a snapshot that pages may be taken from.
  ///   - mayBeElsewhere: and at other places than theirs, or of other guests' snapshots.
  ///   - isInGang: pages may be the same as other guests'.
  fileprivate init(
    _ counters: SendQueue.Counters, isCompacted: Bool, mayBeHeld: Bool, mayBeElsewhere: Bool,
    isInGang: Bool
  ) {
    self.init(zero: counters.zeroPages, raw: counters.rawPages)
    guard isCompacted else { return }
    (uniform, compressed) = (counters.uniformPages, counters.compressedPages)
    (delta, duplicate) = (counters.deltaPages, counters.duplicatePages)
    if mayBeHeld { snapshot = counters.heldPages }
    if mayBeElsewhere { vault = counters.vaultPages }
    disk = counters.diskPages
    if isInGang { gang = counters.gangPages }
  }
}
