import Base
import HostIO
import Logging
import QMP

// A copy of the guest's memory that stays here, for the day it comes back.
extension SourceMigration {
  /// How often progress is told meanwhile.
  static let keepReportMs: UInt64 = 250
  /// How long to wait for what the destination says its snapshot holds; what comes later is used from then on.
  static let filtersTimeoutMs: UInt64 = 5000

  /// What the destination holds of the guest already, where it can be used; nil: nothing.
  func heldPages(_ setup: Setup) -> HeldPages? {
    guard let offer = setup.offer.snapshot, compaction(setup) != nil, !setup.readable.isEmpty,
      offer.storedPages > 0
    else { return nil }
    guard HeldPages.memoryBytes(offer) <= configuration.memoryLimitBytes / 4 else {
      logger.notice(
        "the destination's snapshot of the guest is too large for memoryLimit here",
        metadata: ["snapshot": "\(offer.id)"])
      return nil
    }
    let left = configuration.memoryLimitBytes / 4 - HeldPages.memoryBytes(offer)
    return HeldPages(
      offer, readable: Set(setup.readable.keys), inPlace: Set(setup.inPlaceBlocks),
      elsewhere: setup.offer.vault.flatMap { VaultReferences(offer, $0, byteLimit: left) })
  }

  /// Writes the memory of the guest, which runs at the destination for good, into this host's vault.
  ///
  /// Nothing depends on it: when it fails, or this agent dies, only the copy is lost. The journal says
  /// `committed` until the source's QEMU is ended, so a later agent ends it, without keeping anything.
  func keepMemory(_ undo: SourceUndo) async {
    guard request.keepMemory else { return }
    note { $0.movedAtMs = MonotonicClock.nowMs }
    try? await enter(.keep)
    var kept = MigrationRecord.Kept()
    do {
      kept = try await writeMemory(undo)
      logger.info(
        "memory kept",
        metadata: ["pages": "\(kept.pages ?? 0)", "bytes": "\(kept.bytes ?? 0)"])
    } catch {
      kept.problem = "\(error)"
      logger.warning("memory not kept", metadata: ["error": "\(error)"])
    }
    note { state in
      state.record.kept = kept
      state.progress.remainingBytes = 0
    }
  }

  private func writeMemory(_ undo: SourceUndo) async throws -> MigrationRecord.Kept {
    guard let relay = undo.relay, let monitor = undo.monitor, let process = undo.process else {
      throw VaultError.cannotBeKept("its QEMU is no process of this host that the agent can see")
    }
    let (vm, uuid, opened) = state.read { ($0.record.vm ?? "", $0.guestUUID, $0.stoppedMemory) }
    let memory: StoppedMemory
    if let opened {
      memory = opened
    } else {
      memory = try await StoppedMemory.open(
        relay.blocks, shared: relay.shared, monitor.client, pid: process.pid)
    }
    let keeper = MemoryKeeper(
      vault: Vault(configuration), memory: memory, blocks: relay.blocks, guest: vm, uuid: uuid)
    return try await Blocking.run { [self] in
      var toldAtMs: UInt64 = 0
      return try keeper.keep(isCalledOff: { state.read { $0.isCancelled } }) { doneBytes in
        note { $0.progress.remainingBytes = keeper.ramBytes - doneBytes }
        let now = MonotonicClock.nowMs
        guard now >= toldAtMs + Self.keepReportMs else { return }
        toldAtMs = now
        report()
      }
    }
  }
}
