import HostIO
import Logging

// What is left of a guest whose QEMU ends during its migration.
extension SourceMigration {
  /// How long reading what a dead QEMU wrote may take at least, in milliseconds: it is in its socket, and waits for memory
  /// at most, which the network empties. A network that comes back within its patience is waited for.
  private static let drainTimeoutMsMin: UInt64 = 10_000

  /// Guest memory can't be read. Memory that is read out of QEMU's process ends with it, and the guest as well.
  func memoryFailed(_ setup: Setup, _ reason: String) async throws {
    guard await hasEnded(setup) else { throw Ending.failed(reason) }
    throw Ending.sourceLost(SourceDeath.Loss.memory.description)
  }

  /// QEMU's migration socket or monitor ended: either its process died, or it gave the migration up
  /// and runs the guest. When the whole stream was out, SHUT is withheld and the process is dead,
  /// the destination may go on, if it has or gets all of the guest: nothing else ever can. Everything else throws.
  func confirmSourceIsGone(_ setup: Setup, _ copy: Copy, _ event: Event) async throws {
    guard !state.read({ $0.qemuHasDied }) else { return }
    guard await hasEnded(setup) else {
      try check(event)
      throw Ending.failed("QEMU closed its migration socket before the commit")
    }
    // The end of the monitor overtakes what QEMU wrote last.
    let relay = copy.relay
    let timeoutMs = max(Self.drainTimeoutMsMin, request.networkPatienceMs)
    let isWhole = try await Blocking.run { relay.readToEnd(timeoutMs: timeoutMs) }
    if isWhole { note { $0.streamHasEnded = true } }
    switch death(copy, streamHasEnded: isWhole) {
    case .lost(let loss): throw Ending.sourceLost(loss.description)
    case .survivable: logger.warning("the source's QEMU died; the destination goes on")
    case .undecided:
      logger.warning("the source's QEMU died; whether all of the guest was read shows now")
    }
    note { $0.qemuHasDied = true }
  }

  /// Compares both sides where that is wished for. With a QEMU that has died there is nothing left to compare with, and
  /// the destination, which has loaded everything, goes on all the same.
  func auditIfThere(_ setup: Setup, _ copy: Copy) async throws {
    guard request.audit, !state.read({ $0.sourceIsGone }) else { return }
    do {
      try await audit(setup, copy)
    } catch {
      if case Ending.cancelled = error { throw error }
      if let verdict = error as? AuditVerdict { throw verdict.ending }
      // Whatever else failed may be the first that is seen of a QEMU that has died: its socket's end, say.
      guard await hasEnded(setup) else { throw error }
      if case .lost(let loss) = death(copy, streamHasEnded: true) {
        throw Ending.sourceLost(loss.description)
      }
      logger.warning("the source's QEMU died during the audit; the destination goes on")
      // A pull that is audited ends only when all digests are said to be out.
      if copy.relay.ledger.state.read({ $0.pulls }) { try setup.link.send(.auditEnd) }
      note { ($0.qemuHasDied, $0.sourceIsGone) = (true, true) }
    }
  }

  private func death(_ copy: Copy, streamHasEnded: Bool) -> SourceDeath {
    let pulls = copy.relay.ledger.state.read { $0.pulls }
    return SourceDeath(
      streamHasEnded: streamHasEnded, pulls: pulls,
      memoryOutlivesQEMU: pulls
        ? state.read { $0.stoppedMemory?.outlivesQEMU == true } : copy.relay.memoryOutlivesQEMU)
  }

  /// Whether QEMU's process is over; its sockets may close a moment before.
  private func hasEnded(_ setup: Setup) async -> Bool {
    let deadline = MonotonicClock.nowMs + Self.processEndTimeoutMs
    while let identity = setup.vm.process?.identity, MonotonicClock.nowMs < deadline {
      if !identity.isAlive { return true }
      try? await Task.sleep(nanoseconds: 5_000_000)
    }
    return false
  }
}
